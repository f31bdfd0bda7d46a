"""Convolutional networks between images and feature vectors."""

from collections.abc import Sequence
from functools import reduce
from math import prod, sqrt

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

from dgm_core.arguments import check_count, check_image_shape, check_sizes
from dgm_core.contexts import check_end, check_map
from numpyro_dgm.nn.initial import placed, uniform_draws
from numpyro_dgm.nn.layers import Linear, activate, check_activation

__all__ = ["ConvDecoder", "ConvEncoder", "halvings"]


class _Conv2d(eqx.Module):
    """A convolution with a 4x4 kernel, stride 2 and padding 1; weight (out, in, 4, 4),
    bias (out,).
    """

    weight: Array
    bias: Array

    def __init__(self, in_channels: int, out_channels: int, *, key: Array) -> None:
        self.weight, self.bias = uniform_weights(
            key, (out_channels, in_channels, 4, 4), out_channels
        )

    def __call__(self, x: Array) -> Array:
        height, width = (size // 2 for size in x.shape[2:])
        x = jnp.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))[..., : 2 * height + 2, : 2 * width + 2]
        x = x.reshape(
            *x.shape[:2], height + 1, 2, width + 1, 2
        )  # 2x2 blocks of pixels; a patch is four blocks
        kernel = _blocks(self.weight)
        parts = [
            jnp.einsum(
                "nchrws,ocrs->nohw",
                x[:, :, i : i + height, :, j : j + width],
                kernel[:, :, i, :, j],
            )
            for i, j in _CORNERS
        ]
        return reduce(jnp.add, parts) + self.bias[:, None, None]


class _ConvTranspose2d(eqx.Module):
    """The transpose of that convolution; weight (in, out, 4, 4), bias (out,)."""

    weight: Array
    bias: Array
    output_padding: tuple[int, ...] = eqx.field(static=True)

    def __init__(
        self, in_channels: int, out_channels: int, *, output_padding: tuple[int, ...], key: Array
    ) -> None:
        self.weight, self.bias = uniform_weights(
            key, (in_channels, out_channels, 4, 4), out_channels
        )
        self.output_padding = output_padding

    def __call__(self, x: Array) -> Array:
        height, width = x.shape[2:]
        x = jnp.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
        kernel = _blocks(self.weight)
        shifted = {
            (i, j): x[:, :, 1 - i : 2 - i + height, 1 - j : 2 - j + width] for i, j in _CORNERS
        }
        y = reduce(
            jnp.add,
            [
                jnp.einsum("nchw,cors->nohrws", shifted[i, j], kernel[:, :, i, :, j])
                for i, j in _CORNERS
            ],
        )
        y = y.reshape(*y.shape[:2], 2 * height + 2, 2 * width + 2)  # with a border of one pixel
        sizes = [
            2 * size + extra
            for size, extra in zip((height, width), self.output_padding, strict=True)
        ]
        return y[:, :, 1 : 1 + sizes[0], 1 : 1 + sizes[1]] + self.bias[:, None, None]


# Both are sums of four products of matrices: inside a loop, XLA's convolutions with a stride and
# their derivatives are eight times slower on a CPU.
_CORNERS = ((0, 0), (0, 1), (1, 0), (1, 1))


def _blocks(weight: Array) -> Array:
    """A kernel (., ., 4, 4) as 2x2 blocks of 2x2, (., ., block row, row, block column, column)."""
    return weight.reshape(*weight.shape[:2], 2, 2, 2, 2)


def uniform_weights(key: Array, shape: tuple[int, ...], out_channels: int) -> tuple[Array, Array]:
    """Weight and bias from U(-1/sqrt(n), 1/sqrt(n)), n the product of all but the first size, as in
    torch.
    """
    both = uniform_draws(key, (prod(shape) + out_channels,), 1.0 / sqrt(prod(shape[1:])))
    return placed(both[:-out_channels].reshape(shape)), placed(both[-out_channels:])


class ConvEncoder(eqx.Module):
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
        >>> ConvEncoder((1, 8, 8), key=jax.random.key(0))(jax.numpy.zeros((7, 1, 8, 8))).shape
        (7, 256)
    """

    image_shape: tuple[int, ...] = eqx.field(static=True)
    activation: str = eqx.field(static=True)
    out_dim: int = eqx.field(static=True)
    out_shape: tuple[int, int, int] | None = eqx.field(static=True)
    convolutions: list[_Conv2d]
    output: Linear

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        *,
        hidden_channels: Sequence[int] = (32, 64),
        out_dim: int = 256,
        activation: str = "relu",
        out_channels: int = 0,
        key: Array,
    ) -> None:
        hidden_channels = check_sizes("hidden_channels", hidden_channels, least=1)
        out_dim = check_count("out_dim", out_dim)
        out_channels = check_count("out_channels", out_channels, 0)
        self.image_shape = check_image_shape("image_shape", image_shape)
        sizes = halvings(self.image_shape, len(hidden_channels))
        channels = (self.image_shape[0], *hidden_channels)
        self.activation = check_activation(activation)
        *keys, key_output = jax.random.split(key, len(hidden_channels) + 1)
        self.convolutions = [
            _Conv2d(channels[i], channels[i + 1], key=k) for i, k in enumerate(keys)
        ]
        self.out_shape = (out_channels, *sizes[-1]) if out_channels else None
        self.out_dim = prod(self.out_shape) if self.out_shape else out_dim
        pixels = 1 if out_channels else prod(sizes[-1])  # that the affine layer sees at once
        self.output = Linear(channels[-1] * pixels, out_channels or out_dim, key=key_output)

    def __call__(self, x: Array) -> Array:
        """Features of x (*batch, channels, height, width)."""
        batch_shape, image_shape = x.shape[:-3], x.shape[-3:]
        if image_shape != self.image_shape:
            raise ValueError(
                f"{self} expects images of shape {self.image_shape}, got an array of shape "
                f"{x.shape}."
            )
        x = x.reshape(-1, *image_shape)
        for convolution in self.convolutions:
            x = activate(self.activation, convolution(x))
        if self.out_shape:
            return by_pixel(self.output, x).reshape(*batch_shape, *self.out_shape)
        return activate(self.activation, self.output(x.reshape(len(x), -1))).reshape(
            *batch_shape, self.out_dim
        )

    def __repr__(self) -> str:
        channels = tuple(convolution.weight.shape[0] for convolution in self.convolutions)
        return (
            f"ConvEncoder({self.image_shape}, hidden_channels={channels}, out_dim={self.out_dim})"
        )


class ConvDecoder(eqx.Module):
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
        >>> ConvDecoder(2, (1, 8, 8), key=jax.random.key(0))(jax.numpy.zeros((7, 2))).shape
        (7, 16, 8, 8)
    """

    in_dim: int | tuple[int, ...] = eqx.field(static=True)
    image_shape: tuple[int, ...] = eqx.field(static=True)
    activation: str = eqx.field(static=True)
    start: tuple[int, ...] = eqx.field(static=True)
    out_shape: tuple[int, int, int] = eqx.field(static=True)
    input: Linear
    convolutions: list[_ConvTranspose2d]

    def __init__(
        self,
        in_dim: int | tuple[int, int, int],
        image_shape: tuple[int, int, int],
        *,
        hidden_channels: Sequence[int] = (64, 32),
        out_channels: int = 16,
        activation: str = "relu",
        key: Array,
    ) -> None:
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
        key_input, *keys = jax.random.split(key, len(hidden_channels) + 1)
        from_map = isinstance(self.in_dim, tuple)
        wanted = (self.in_dim[0], *sizes[0]) if isinstance(self.in_dim, tuple) else self.in_dim
        check_map("in_dim", self.in_dim, wanted)
        entries = self.in_dim[0] if isinstance(self.in_dim, tuple) else self.in_dim
        self.input = Linear(entries, channels[0] if from_map else prod(self.start), key=key_input)
        self.convolutions = [
            _ConvTranspose2d(
                channels[i],
                channels[i + 1],
                output_padding=(
                    sizes[i + 1][0] - 2 * sizes[i][0],
                    sizes[i + 1][1] - 2 * sizes[i][1],
                ),
                key=k,
            )
            for i, k in enumerate(keys)
        ]
        self.out_shape = (out_channels, *sizes[-1])

    def __call__(self, h: Array) -> Array:
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
        channels = tuple(convolution.weight.shape[0] for convolution in self.convolutions)
        return f"ConvDecoder({self.in_dim}, {self.image_shape}, hidden_channels={channels})"


def by_pixel(layer: Linear, x: Array) -> Array:
    """An affine map of each pixel of maps (*batch, channels, height, width)."""
    return jnp.moveaxis(layer(jnp.moveaxis(x, -3, -1)), -1, -3)


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
