"""Convolutional networks between images and feature vectors."""

from collections.abc import Sequence
from math import prod

from torch import Tensor, nn

from dgm_core.arguments import check_count, check_image_shape, check_sizes
from dgm_core.contexts import check_end, check_map
from pyro_dgm.nn.layers import Linear, activate, check_activation

__all__ = ["ConvDecoder", "ConvEncoder", "halvings"]


class ConvEncoder(nn.Module):
    """From images to features: convolutions with 4x4 kernels and stride 2, each halving height and
    width, then an affine layer; each is followed by the activation.

    Args:
        image_shape: channels, height, width.
        hidden_channels: the channels after each convolution.
        out_dim: the number of features.
        activation: as in `MLP`.
        out_channels: features of each pixel of the smallest map, in place of a vector: the affine
            layer is that of a pixel, without an activation; 0 for a vector.

    Attributes:
        convolutions: the layers before the last.
        output: the affine layer.
        out_dim: the number of features;  out_shape: (out_channels, height, width) of a map, None of
            a vector.

    Shapes:
        x (*batch, channels, height, width) -> (*batch, out_dim), or (*batch, *out_shape).

    Raises:
        ValueError: if the image is too small to be halved that often, and for an x of the wrong
            shape.

    Example:
        >>> import torch
        >>> ConvEncoder((1, 8, 8))(torch.zeros(7, 1, 8, 8)).shape
        torch.Size([7, 256])
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        *,
        hidden_channels: Sequence[int] = (32, 64),
        out_dim: int = 256,
        activation: str = "relu",
        out_channels: int = 0,
    ) -> None:
        super().__init__()
        hidden_channels = check_sizes("hidden_channels", hidden_channels, least=1)
        out_dim = check_count("out_dim", out_dim)
        out_channels = check_count("out_channels", out_channels, 0)
        self.image_shape = check_image_shape("image_shape", image_shape)
        sizes = halvings(self.image_shape, len(hidden_channels))
        channels = (self.image_shape[0], *hidden_channels)
        self.activation = check_activation(activation)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(channels[i], channels[i + 1], 4, stride=2, padding=1)
            for i in range(len(hidden_channels))
        )
        self.out_shape = (out_channels, *sizes[-1]) if out_channels else None
        self.out_dim = prod(self.out_shape) if self.out_shape else out_dim
        pixels = 1 if out_channels else prod(sizes[-1])  # that the affine layer sees at once
        self.output = Linear(channels[-1] * pixels, out_channels or out_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Features of x (*batch, channels, height, width)."""
        batch_shape, image_shape = x.shape[:-3], x.shape[-3:]
        if tuple(image_shape) != self.image_shape:
            raise ValueError(
                f"{self} expects images of shape {self.image_shape}, got an array of shape "
                f"{tuple(x.shape)}."
            )
        x = x.reshape(-1, *image_shape).to(self.output.weight.dtype)
        for convolution in self.convolutions:
            x = activate(self.activation, convolution(x))
        if self.out_shape:
            return by_pixel(self.output, x).reshape(*batch_shape, *self.out_shape)
        return activate(self.activation, self.output(x.flatten(1))).reshape(
            *batch_shape, self.out_dim
        )

    def __repr__(self) -> str:
        channels = tuple(convolution.out_channels for convolution in self.convolutions)
        return (
            f"ConvEncoder({self.image_shape}, hidden_channels={channels}, out_dim={self.out_dim})"
        )


class ConvDecoder(nn.Module):
    """From features to a feature image: an affine layer to a small image, then transposed
    convolutions with 4x4 kernels and stride 2, each doubling height and width; each is followed by
    the activation.

    The output is a map, the context of a likelihood of images.

    Args:
        in_dim: the size of what comes in, or the shape of a map, (channels, height, width) of the
            smallest: the affine layer is then that of a pixel.
        image_shape: (channels, height, width), of which the channels do not matter.
        hidden_channels: the channels before each transposed convolution.
        out_channels: the features of a pixel.
        activation: as in `MLP`.

    Attributes:
        input: the affine layer.
        convolutions: the layers after it.
        out_shape: (out_channels, height, width).

    Shapes:
        h (*batch, in_dim), or (*batch, *in_dim) -> (*batch, out_channels, height, width).

    Raises:
        ValueError: if the image is too small to be halved that often, and for an h of the wrong
            size.

    Example:
        >>> import torch
        >>> ConvDecoder(2, (1, 8, 8))(torch.zeros(7, 2)).shape
        torch.Size([7, 16, 8, 8])
    """

    def __init__(
        self,
        in_dim: int | tuple[int, int, int],
        image_shape: tuple[int, int, int],
        *,
        hidden_channels: Sequence[int] = (64, 32),
        out_channels: int = 16,
        activation: str = "relu",
    ) -> None:
        super().__init__()
        hidden_channels = check_sizes("hidden_channels", hidden_channels, least=1)
        self.in_dim = (
            check_image_shape("in_dim", in_dim)
            if isinstance(in_dim, tuple)
            else check_count("in_dim", in_dim)
        )
        self.image_shape = check_image_shape("image_shape", image_shape)
        sizes = halvings(self.image_shape, len(hidden_channels))[::-1]
        channels = (*hidden_channels, check_count("out_channels", out_channels))
        self.activation = check_activation(activation)
        self.start = (channels[0], *sizes[0])
        from_map = isinstance(self.in_dim, tuple)
        wanted = (self.in_dim[0], *sizes[0]) if isinstance(self.in_dim, tuple) else self.in_dim
        check_map("in_dim", self.in_dim, wanted)
        entries = self.in_dim[0] if isinstance(self.in_dim, tuple) else self.in_dim
        self.input = Linear(entries, channels[0] if from_map else prod(self.start))
        self.convolutions = nn.ModuleList(
            nn.ConvTranspose2d(
                channels[i],
                channels[i + 1],
                4,
                stride=2,
                padding=1,
                output_padding=(
                    sizes[i + 1][0] - 2 * sizes[i][0],
                    sizes[i + 1][1] - 2 * sizes[i][1],
                ),
            )
            for i in range(len(hidden_channels))
        )
        self.out_shape = (out_channels, *sizes[-1])

    def forward(self, h: Tensor) -> Tensor:
        """Feature images from h (*batch, in_dim), or (*batch, *in_dim)."""
        split = check_end(self, h, self.in_dim)
        if isinstance(self.in_dim, tuple):
            x = activate(self.activation, by_pixel(self.input, h.reshape(-1, *self.in_dim)))
        else:
            x = activate(self.activation, self.input(h)).reshape(-1, *self.start)
        for convolution in self.convolutions:
            x = activate(self.activation, convolution(x))
        return x.reshape(*h.shape[:split], *self.out_shape)

    def __repr__(self) -> str:
        channels = tuple(convolution.in_channels for convolution in self.convolutions)
        return f"ConvDecoder({self.in_dim}, {self.image_shape}, hidden_channels={channels})"


def by_pixel(layer: Linear, x: Tensor) -> Tensor:
    """An affine map of each pixel of maps (*batch, channels, height, width)."""
    return layer(x.movedim(-3, -1)).movedim(-1, -3)


def halvings(image_shape: tuple[int, ...], times: int) -> list[tuple[int, int]]:
    """Height and width of an image (channels, height, width) before and after each halving, rounded
    down.

    Example:
        >>> halvings((1, 28, 28), 2)
        [(28, 28), (14, 14), (7, 7)]
    """
    sizes = [(image_shape[1] >> i, image_shape[2] >> i) for i in range(times + 1)]
    if not times or min(sizes[-1]) < 1:
        raise ValueError(
            f"An image of shape {image_shape} cannot be halved {times} times; give other "
            "hidden_channels."
        )
    return sizes
