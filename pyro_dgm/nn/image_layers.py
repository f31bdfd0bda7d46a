"""Layers of networks between images, channels first: convolutions that keep the size, changes of
the size, normalizations.
"""

from math import sqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dgm_core.arguments import check_choice, check_count, check_flag
from dgm_core.contexts import ContextShape, check_context, check_context_shape, context_size
from dgm_core.spectral import PADDINGS
from pyro_dgm.nn.contexts import flat, visible
from pyro_dgm.nn.initial import uniform_draws
from pyro_dgm.nn.layers import Linear
from pyro_dgm.nn.states import is_repeated

__all__ = ["ConditionalBatchNorm", "Conv2d", "MinibatchStdDev", "PixelNorm", "halved", "resized"]


class Conv2d(nn.Module):
    """A convolution (cross-correlation) of stride one whose result has the size of the image, with
    weight and bias drawn from U(-1/sqrt(n), 1/sqrt(n)), n = in_channels * kernel_size^2.

    Args:
        in_channels: of the image.
        out_channels: of the result.
        kernel_size: odd.
        padding: what is around the image, "zeros" or "circular" (the opposite edge).
        bias: whether there is one.

    Attributes:
        weight (out_channels, in_channels, kernel_size, kernel_size), bias (out_channels,) or None.

    Shapes:
        x (*batch, in_channels, height, width) -> (*batch, out_channels, height, width).

    Raises:
        ValueError: for an even kernel, another padding, and an x with other channels.

    Example:
        >>> Conv2d(2, 3)(torch.zeros(7, 2, 9, 8)).shape
        torch.Size([7, 3, 9, 8])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        *,
        padding: str = "zeros",
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.in_channels = check_count("in_channels", in_channels)
        self.out_channels = check_count("out_channels", out_channels)
        self.kernel_size = check_odd("kernel_size", kernel_size)
        self.padding = check_choice("padding", padding, PADDINGS)
        limit = 1.0 / sqrt(in_channels * kernel_size**2)
        shape = out_channels, in_channels, kernel_size, kernel_size
        self.weight, self.bias = nn.Parameter(uniform_draws(shape, limit)), None
        if check_flag("bias", bias):
            self.bias = nn.Parameter(uniform_draws((out_channels,), limit))

    def forward(self, x: Tensor) -> Tensor:
        """Convolve x (*batch, in_channels, height, width)."""
        return self.convolved(x, self.weight, self.bias)

    def convolved(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """The same with another weight and bias."""
        check_channels(self, x, self.in_channels)
        images = x.to(weight.dtype).reshape(-1, *x.shape[-3:])
        around = self.kernel_size // 2
        if self.padding == "circular" and around:
            images = F.pad(images, (around,) * 4, mode="circular")
            around = 0
        out = F.conv2d(images, weight, bias, padding=around)
        return out.reshape(*x.shape[:-3], *out.shape[1:])

    def __repr__(self) -> str:
        others = "" if self.padding == "zeros" else f", padding={self.padding!r}"
        return f"Conv2d({self.in_channels}, {self.out_channels}, {self.kernel_size}{others})"


class ConditionalBatchNorm(nn.BatchNorm2d):
    """Batch normalization of maps, with gain and shift from a context:  y = (1 + G c) u + B c,
    u = weight (x - mean) / sqrt(variance + 1e-5) + bias, with statistics of each channel.

    Training uses the statistics of the batch and moves the running ones towards them (momentum 0.1,
    unbiased variance); inside `evaluation_mode` the running statistics are used and left alone.
    G and B start at zero, so that at first the context changes nothing.

    Args:
        channels: of the maps.
        context_shape: of c: a size, a shape, labels, several of these; 0 for none.

    Attributes:
        weight, bias: (channels,);  given: from the context to gain and shift, None without one.

    Shapes:
        x (*batch, channels, height, width), context (*batch, *context_shape) -> as x.

    Raises:
        ValueError: for an x with other channels, a context that does not fit, and one value of a
            channel alone in training.

    References:
        de Vries et al. (2017), arXiv:1707.00683; Brock, Donahue and Simonyan (2019),
        arXiv:1809.11096, figure 15.

    Example:
        >>> from dgm_core.contexts import Labels
        >>> norm = ConditionalBatchNorm(3, context_shape=Labels(10))
        >>> norm(torch.zeros(7, 3, 4, 4), torch.arange(7)).shape
        torch.Size([7, 3, 4, 4])
    """

    def __init__(self, channels: int, *, context_shape: ContextShape = 0) -> None:
        super().__init__(check_count("channels", channels))
        self.context_shape = check_context_shape("context_shape", context_shape)
        self.given = None
        if size := context_size(self.context_shape):
            self.given = Linear(size, 2 * channels)
            with torch.no_grad():
                self.given.weight.zero_()
                self.given.bias.zero_()

    def forward(self, x: Tensor, context: Any = None) -> Tensor:
        """Normalize x (*batch, channels, height, width)."""
        check_channels(self, x, self.num_features)
        check_context(self, context, self.context_shape)
        if self.training and x.numel() <= self.num_features:
            raise ValueError(
                f"{self} needs at least two values of a channel in training, got shape "
                f"{tuple(x.shape)}."
            )
        maps = x.reshape(-1, *x.shape[-3:])
        if self.training and is_repeated():
            y = F.batch_norm(maps, None, None, self.weight, self.bias, True)
        else:
            y = super().forward(maps)
        y = y.reshape(x.shape)
        if self.given is None:
            return y
        c = flat(visible(context, self.context_shape), self.context_shape)
        gain, shift = self.given(c)[..., None, None].chunk(2, -3)
        return torch.addcmul(shift + y, gain, y)

    def __repr__(self) -> str:
        return f"ConditionalBatchNorm({self.num_features})"


class PixelNorm(nn.Module):
    """Each pixel divided by the root mean square of its channels:  y = x / sqrt(mean_c x_c^2 +
    1e-8).

    Shapes:
        x (*batch, channels, height, width) -> the same.

    Raises:
        ValueError: for an x that is no map.

    References:
        Karras et al. (2018), arXiv:1710.10196, section 4.2.

    Example:
        >>> PixelNorm()(torch.tensor([3.0, 4.0]).reshape(2, 1, 1)).flatten()
        tensor([0.8485, 1.1314])
    """

    def __init__(self) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """Normalize x (*batch, channels, height, width)."""
        check_channels(self, x)
        return x * (x.square().mean(-3, keepdim=True) + 1e-8).rsqrt()


class MinibatchStdDev(nn.Module):
    """How much a batch varies as one more channel of a critic:  the standard deviation of each
    feature over the batch, sqrt(variance + 1e-8), averaged over all features.

    Shapes:
        x (batch, channels, height, width) -> (batch, channels + 1, height, width).

    Raises:
        ValueError: for an x that is no batch of maps.

    References:
        Karras et al. (2018), arXiv:1710.10196, section 3.

    Example:
        >>> x = torch.tensor([[1.0, 2.0], [3.0, 6.0], [-1.0, 0.0], [1.0, 4.0]])
        >>> MinibatchStdDev()(x[:, :, None, None])[0].flatten()
        tensor([1.0000, 2.0000, 1.8251])
    """

    def __init__(self) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """Append the channel to x (batch, channels, height, width)."""
        if x.ndim != 4:
            raise ValueError(f"{self} expects (batch, channels, height, width), got {(*x.shape,)}.")
        deviation = (x.var(0, correction=0) + 1e-8).sqrt().mean()
        return torch.cat([x, deviation.expand(len(x), 1, *x.shape[2:])], 1)


def resized(x: Tensor) -> Tensor:
    """Maps of twice the height and width, each pixel four times.

    Example:
        >>> resized(torch.zeros(7, 3, 4, 4)).shape
        torch.Size([7, 3, 8, 8])
    """
    *batch, height, width = x.shape
    wide = F.interpolate(x.reshape(-1, *x.shape[-3:]), scale_factor=2)
    return wide.reshape(*batch, 2 * height, 2 * width)


def halved(x: Tensor) -> Tensor:
    """Maps of half the height and width, the means of four pixels; ValueError for an odd size.

    Example:
        >>> halved(torch.zeros(7, 3, 8, 8)).shape
        torch.Size([7, 3, 4, 4])
    """
    if x.shape[-1] % 2 or x.shape[-2] % 2:
        raise ValueError(f"Maps to be halved need even sizes, got shape {tuple(x.shape)}.")
    return F.avg_pool2d(x.reshape(-1, *x.shape[-3:]), 2).reshape(
        *x.shape[:-2], x.shape[-2] // 2, x.shape[-1] // 2
    )


def check_odd(name: str, value: Any) -> int:
    """An odd count."""
    if check_count(name, value) % 2 == 0:
        raise ValueError(f"{name} must be odd, so that a kernel has a middle, got {value}.")
    return value


def check_channels(layer: Any, x: Tensor, channels: int | None = None) -> None:
    """Raises ValueError unless x holds maps (*batch, channels, height, width)."""
    if x.ndim < 3 or channels not in (None, x.shape[-3]):
        wanted = f"(*batch, {channels or 'channels'}, height, width)"
        raise ValueError(
            f"{layer} expects maps of shape {wanted}, channels first, got {tuple(x.shape)}."
        )
