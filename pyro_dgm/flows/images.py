"""Flows of images: couplings with checkerboard and channel masks, at several scales.

All scales of the noise lie in one array of the image's shape: half of what a scale has made is left
as it is, the other half goes on to the next.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from dgm_core.arguments import (
    check_choice,
    check_count,
    check_flag,
    check_image_shape,
    check_instance,
    check_sizes,
)
from dgm_core.contexts import ContextShape, check_context_shape, context_size, map_channels
from pyro_dgm.conditionals import Conditional
from pyro_dgm.flows.flow import Flow
from pyro_dgm.flows.scalar import Affine, ScalarMap
from pyro_dgm.flows.scales import FactoredOut, Squeezed, WithinImage
from pyro_dgm.flows.transform import Transform
from pyro_dgm.nn import Linear
from pyro_dgm.nn.contexts import as_map, flat
from pyro_dgm.nn.layers import activate, check_activation

__all__ = ["ImageCoupling", "MultiScaleRealNVP"]


class _ConvNet(nn.Module):
    """3x3 convolutions that keep the size of an image. A map as context, and what is beside it, are
    channels of the first one's input; any other moves its output, by one number for each channel.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        hidden_channels: Sequence[int],
        num_params: int,
        context_shape: ContextShape,
        activation: str,
    ) -> None:
        super().__init__()
        hidden_channels = check_sizes("hidden_channels", hidden_channels, least=1)
        self.activation = check_activation(activation)
        self.context_shape = check_context_shape("context_shape", context_shape)
        channels, self.pixels = image_shape[0], image_shape[1:]
        maps = map_channels(self.context_shape, self.pixels)
        self.has_map = maps > 0
        sizes = (channels + maps, *hidden_channels, channels * num_params)
        self.convolutions = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(sizes))
        self.context = (
            Linear(context_size(context_shape), sizes[1])
            if self.context_shape and not maps
            else None
        )
        with torch.no_grad():  # near raw = 0, the identity
            for parameter in self.convolutions[-1].parameters():
                parameter.mul_(0.01)

    def forward(self, x: Tensor, context: Tensor | None) -> Tensor:
        if self.has_map:
            maps = as_map(context, self.context_shape, self.pixels)
            batch = torch.broadcast_shapes(x.shape[:-3], maps.shape[:-3])
            x = torch.cat([part.expand(*batch, -1, -1, -1) for part in (x, maps)], -3)
        for index, convolution in enumerate(self.convolutions):
            x = activate(self.activation, x) if index else x
            x = convolution(x.reshape(-1, *x.shape[-3:])).reshape(*x.shape[:-3], -1, *x.shape[-2:])
            if index == 0 and self.context is not None and context is not None:
                x = x + self.context(flat(context, self.context_shape))[..., None, None]
        return x


class ImageCoupling(Transform):
    """u_i = x_i on one half of an image, by a mask;  u_i = h(x_i; raw_i),  raw = network(masked x,
    c), on the other.

    Args:
        image_shape: C, H, W.
        mask: "checkerboard" (every other pixel) or "channels" (the first C // 2 channels are kept).
        swap: keep the other half.
        scalar: the map h.
        context_shape: of the context (0 = none). A map (channels, height, width) has the pixels of
            the image or a multiple of them, which are then taken in blocks.
        hidden_channels, activation: of the network, of 3x3 convolutions.

    Shapes:
        u and x (*batch, C, H, W), context (*batch, *context_shape); log-determinants (*batch,).

    Cost:
        one pass of the network in each direction, and what the scalar map costs.

    Raises:
        ValueError: for another mask, a single channel under the mask "channels", or sizes below 1.

    References:
        Dinh et al. (2017), arXiv:1605.08803, section 3.4.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        mask: str = "checkerboard",
        *,
        swap: bool = False,
        scalar: ScalarMap = Affine(),  # noqa: B008, it is frozen
        context_shape: ContextShape = 0,
        hidden_channels: Sequence[int] = (32, 32),
        activation: str = "relu",
    ) -> None:
        super().__init__()
        image_shape = check_image_shape("image_shape", image_shape)
        check_mask(mask, image_shape)
        check_instance("scalar", scalar, ScalarMap, "a scalar map such as Affine()")
        self.mask, self.swap, self.scalar = mask, check_flag("swap", swap), scalar
        self.network = _ConvNet(
            image_shape,
            hidden_channels,
            scalar.num_params,
            context_shape,
            activation,
        )

    @property
    def context_shape(self) -> tuple[Any, ...]:
        """The shape of its context."""
        return self.network.context_shape

    @property
    def forward_cost(self) -> str:
        """What `forward_and_log_det` costs."""
        return (
            "one pass"
            if self.scalar.inverse_cost == "closed form"
            else f"one pass and a {self.scalar.inverse_cost}"
        )

    def forward_and_log_det(
        self, u: Tensor, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """x = f(u; c) and log |det dx/du|."""
        kept, raw = self._conditioned(u, context)
        x, log_slope = self.scalar.invert(u, raw)
        return torch.where(kept, u, x), torch.where(kept, 0.0, log_slope).sum((-3, -2, -1))

    def inverse_and_log_det(
        self, x: Tensor, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """u = f^-1(x; c) and log |det du/dx|."""
        kept, raw = self._conditioned(x, context)
        u, log_slope = self.scalar(x, raw)
        return torch.where(kept, x, u), torch.where(kept, 0.0, log_slope).sum((-3, -2, -1))

    def _conditioned(self, value: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """The mask (C, H, W), true where values are kept, and the parameters of the map (*batch, C,
        H, W, num_params).
        """
        channel, row, column = (
            torch.arange(size, device=value.device) for size in value.shape[-3:]
        )
        if self.mask == "checkerboard":
            kept = ((row[:, None] + column) % 2 == self.swap).expand(value.shape[-3:])
        else:
            kept = ((channel < len(channel) // 2) != self.swap)[:, None, None].expand(
                value.shape[-3:]
            )
        raw = self.network(torch.where(kept, value, 0.0), context)
        return kept, raw.unflatten(-3, (-1, self.scalar.num_params)).movedim(-3, -1)


def check_mask(mask: str, image_shape: tuple[int, ...]) -> None:
    """Refuse masks that are not known, and shapes that they do not divide.

    Example:
        >>> check_mask("checkerboard", (1, 8, 8))
    """
    check_choice("mask", mask, ("checkerboard", "channels"))
    if (mask == "channels" and image_shape[0] < 2) or (
        mask == "checkerboard" and image_shape[1] * image_shape[2] < 2
    ):
        raise ValueError(
            f"The mask {mask!r} needs two channels or two pixels at least, got images of shape "
            f"{image_shape}."
        )


class MultiScaleRealNVP(Flow):
    """RealNVP for images, at several scales: couplings with checkerboard masks; squeeze; couplings
    with channel masks; half of the channels are factored out; and the same again on the other half.
    The last scale has checkerboard masks only, and one coupling more.

    Pixels are real numbers: map data in [0, 1] to the real line beforehand (dequantize, then take
    logits).

    Args:
        image_shape: C, H, W.
        context_shape: 0 = unconditional; a map (channels, H, W) stays one at every scale.
        num_scales: the number of scales.
        num_layers: couplings for each mask and scale.
        hidden_channels, activation: of their networks, of 3x3 convolutions.
        base: as in `Flow`.

    Shapes:
        context (*batch, *context_shape) -> batch_shape (*batch,), event_shape (C, H, W).

    Cost:
        one pass in each direction.

    Raises:
        ValueError: if the image cannot be halved num_scales - 1 times, for num_scales < 1 or
            num_layers < 1.

    References:
        Dinh et al. (2017), arXiv:1605.08803.

    Example:
        >>> MultiScaleRealNVP((1, 8, 8))().sample((5,)).shape
        torch.Size([5, 1, 8, 8])
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        *,
        context_shape: ContextShape = 0,
        num_scales: int = 2,
        num_layers: int = 3,
        hidden_channels: Sequence[int] = (32, 32),
        activation: str = "relu",
        base: Conditional | None = None,
    ) -> None:
        check_count("num_layers", num_layers)
        transforms: list[Transform] = []
        for shape, mask, swap, place in multi_scale(image_shape, num_scales, num_layers):
            transform: Transform = ImageCoupling(
                shape,
                mask,
                swap=swap,
                context_shape=context_shape,
                hidden_channels=hidden_channels,
                activation=activation,
            )
            for wrap in reversed(place):
                transform = wrap(transform)
            transforms.insert(0, transform)
        super().__init__(image_shape, transforms, context_shape=context_shape, base=base)
        self.num_scales, self.num_layers, self.hidden_channels = (
            num_scales,
            num_layers,
            tuple(hidden_channels),
        )

    def _sizes(self) -> tuple[str, ...]:
        return (
            f"num_scales={self.num_scales}",
            f"num_layers={self.num_layers}",
            f"hidden_channels={self.hidden_channels}",
        )


def multi_scale(
    image_shape: tuple[int, int, int], num_scales: int, num_layers: int
) -> list[tuple[tuple[int, int, int], str, bool, list[type[WithinImage]]]]:
    """The couplings of a multi-scale flow, from the data to the noise: shape, mask, swap, and what
    they are wrapped in, from the outside.

    Example:
        >>> [shape for shape, *_ in multi_scale((1, 8, 8), 2, 1)]
        [(1, 8, 8), (4, 4, 4), (2, 4, 4), (2, 4, 4)]
    """
    num_scales = check_count("num_scales", num_scales)
    channels, height, width = check_image_shape("image_shape", image_shape)
    if any(size % 2 ** (num_scales - 1) for size in (height, width)):
        raise ValueError(
            "image_shape must be (channels, height, width), both sizes divisible by "
            f"2^{num_scales - 1}, got {tuple(image_shape)}."
        )
    place: list[type[WithinImage]] = []
    couplings = []
    for scale in range(num_scales):
        last = scale == num_scales - 1
        mask = "checkerboard" if height * width > 1 else "channels"  # of one pixel, its channels
        couplings += [
            ((channels, height, width), mask, i % 2 == 1, place) for i in range(num_layers + last)
        ]
        if not last:
            height, width = height // 2, width // 2
            couplings += [
                ((4 * channels, height, width), "channels", i % 2 == 1, [*place, Squeezed])
                for i in range(num_layers)
            ]
            channels, place = 2 * channels, [*place, Squeezed, FactoredOut]
    return couplings
