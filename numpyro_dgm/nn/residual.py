"""Residual generators and critics of images, their blocks, and attention between pixels: what
SN-GAN, SAGAN and BigGAN are made of.
"""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

from dgm_core.arguments import check_choice, check_count, check_counts, check_flag, check_sizes
from dgm_core.contexts import ContextShape, check_context_shape
from dgm_core.image_blocks import check_resolutions
from numpyro_dgm.nn.image_layers import (
    ConditionalBatchNorm,
    Conv2d,
    check_channels,
    halved,
    resized,
)
from numpyro_dgm.nn.layers import Linear
from numpyro_dgm.nn.weights import SpectralNorm

__all__ = ["CriticBlock", "GeneratorBlock", "ResidualGenerator", "SelfAttention", "attend"]

NORMS = ("none", "matrix", "operator")


class SelfAttention(eqx.Module):
    """Each pixel looks at all others:  y = x + gamma W_o o,  o_i = sum_j softmax_j(q_i . k_j) v_j,
    q = W_q x, k = W_k x, v = W_v x of each pixel; gamma starts at zero, as the identity.

    Args:
        channels: of the maps.
        key_channels: of q and k (default channels / 8, at least one).
        value_channels: of v (default channels / 2, at least one).
        spectral_norm: of the four maps: "none" or "matrix" (of a map of single pixels the matrix
            is the operator).

    Attributes:
        gamma: a number.

    Shapes:
        x (*batch, channels, height, width) -> the same.

    Cost:
        the square of the number of pixels.

    Raises:
        ValueError: for a size below 1, an unknown norm, and an x with other channels.

    References:
        Zhang et al. (2019), arXiv:1805.08318, equations 1 to 3 (no 1 / sqrt(d)).

    Example:
        >>> SelfAttention(4, key=jax.random.key(0))(jnp.zeros((7, 4, 6, 5))).shape
        (7, 4, 6, 5)
    """

    channels: int = eqx.field(static=True)
    query: Any
    key: Any
    value: Any
    output: Any
    gamma: Array

    def __init__(
        self,
        channels: int,
        *,
        key_channels: int | None = None,
        value_channels: int | None = None,
        spectral_norm: str = "none",
        key: Array,
    ) -> None:
        self.channels = check_count("channels", channels)
        keys = max(1, channels // 8) if key_channels is None else key_channels
        values = max(1, channels // 2) if value_channels is None else value_channels
        check_count("key_channels", keys), check_count("value_channels", values)
        norm = check_choice("spectral_norm", spectral_norm, ("none", "matrix"))
        one, two, three, four = jax.random.split(key, 4)
        self.query = normalized(Conv2d(channels, keys, 1, bias=False, key=one), norm)
        self.key = normalized(Conv2d(channels, keys, 1, bias=False, key=two), norm)
        self.value = normalized(Conv2d(channels, values, 1, bias=False, key=three), norm)
        self.output = normalized(Conv2d(values, channels, 1, bias=False, key=four), norm)
        self.gamma = jnp.zeros(())

    def __call__(self, x: Array) -> Array:
        """Attend in x (*batch, channels, height, width)."""
        check_channels(self, x, self.channels)
        q, k, v = (
            (y := part(x)).reshape(*y.shape[:-2], -1).mT
            for part in (self.query, self.key, self.value)
        )
        seen = attend(q, k, v).mT
        seen = seen.reshape(*seen.shape[:-1], *x.shape[-2:])
        return x + self.gamma * self.output(seen)

    def __repr__(self) -> str:
        return f"SelfAttention({self.channels})"


def attend(query: Array, key: Array, value: Array) -> Array:
    """sum_j softmax_j(q_i . k_j) v_j, without a factor in the exponent.

    Shapes:
        query (*batch, n, d), key (*batch, m, d), value (*batch, m, e) -> (*batch, n, e).

    Example:
        >>> attend(jnp.zeros((1, 2)), jnp.zeros((3, 2)), jnp.array([[1.0], [2.0], [6.0]]))
        Array([[3.]], dtype=float32)
    """
    return jax.nn.softmax(query @ key.mT, -1) @ value


class GeneratorBlock(eqx.Module):
    """A residual block that doubles height and width:  y = s(up(x)) + c2(r2(c1(up(r1(x))))),
    r the rectified batch normalization of a context, c 3x3 convolutions, s a 1x1 convolution, all
    without bias, which the next normalization would take out, up repeats pixels.

    Args:
        in_channels: of x.
        out_channels: of y.
        context_shape: of what the normalizations are conditioned on; 0 for nothing.
        spectral_norm: of the convolutions, "none", "matrix" or "operator".
        image_size: height and width of x.

    Shapes:
        x (*batch, in_channels, height, width) -> (*batch, out_channels, 2 height, 2 width).

    References:
        Miyato et al. (2018), arXiv:1802.05957, figure 8; Brock et al. (2019), figure 15.

    Example:
        >>> GeneratorBlock(4, 3, key=jax.random.key(0))(jnp.zeros((7, 4, 5, 5))).shape
        (7, 3, 10, 10)
    """

    norms: list[ConditionalBatchNorm]
    first: Any
    second: Any
    skip: Any

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        context_shape: ContextShape = 0,
        spectral_norm: str = "none",
        image_size: tuple[int, int] | None = None,
        key: Array,
    ) -> None:
        check_counts(in_channels=in_channels, out_channels=out_channels)
        twice = None if image_size is None else (2 * image_size[0], 2 * image_size[1])
        keys = jax.random.split(key, 5)
        self.norms = [
            ConditionalBatchNorm(size, context_shape=context_shape, key=k)
            for size, k in zip((in_channels, out_channels), keys)
        ]
        norm, wide = spectral_norm, out_channels
        self.first = normalized(Conv2d(in_channels, wide, bias=False, key=keys[2]), norm, twice)
        self.second = normalized(Conv2d(wide, wide, bias=False, key=keys[3]), norm, twice)
        self.skip = normalized(
            Conv2d(in_channels, wide, 1, bias=False, key=keys[4]), norm, image_size
        )

    def __call__(self, x: Array, context: Any = None) -> Array:
        """Maps of twice the size."""
        h = self.first(resized(jax.nn.relu(self.norms[0](x, context))))
        return resized(self.skip(x)) + self.second(jax.nn.relu(self.norms[1](h, context)))


class CriticBlock(eqx.Module):
    """A residual block that halves height and width:  y = down(s(x) + c2(relu(c1(relu(x))))),
    down the mean of four pixels; or that keeps them, without down, and s where channels change.

    Args:
        in_channels: of x.
        out_channels: of y.
        first: whether x are images, which are not rectified.
        halve: whether height and width are halved.
        spectral_norm: of the convolutions, "none", "matrix" or "operator".
        image_size: height and width of x.

    Shapes:
        x (*batch, in_channels, height, width) -> (*batch, out_channels, height / 2, width / 2),
        or with the height and width of x.

    References:
        Miyato et al. (2018), arXiv:1802.05957, figure 8.

    Example:
        >>> CriticBlock(4, 3, key=jax.random.key(0))(jnp.zeros((7, 4, 8, 8))).shape
        (7, 3, 4, 4)
    """

    is_first: bool = eqx.field(static=True)
    halve: bool = eqx.field(static=True)
    first: Any
    second: Any
    skip: Any

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        first: bool = False,
        halve: bool = True,
        spectral_norm: str = "none",
        image_size: tuple[int, int] | None = None,
        key: Array,
    ) -> None:
        self.is_first = check_flag("first", first)
        self.halve = check_flag("halve", halve)
        half = None if image_size is None else (image_size[0] // 2, image_size[1] // 2)
        keys, norm, wide = jax.random.split(key, 3), spectral_norm, out_channels
        self.first = normalized(Conv2d(in_channels, wide, key=keys[0]), norm, image_size)
        self.second = normalized(Conv2d(wide, wide, key=keys[1]), norm, image_size)
        self.skip = None
        if halve or in_channels != out_channels:
            seen = half if halve else image_size
            self.skip = normalized(Conv2d(in_channels, wide, 1, key=keys[2]), norm, seen)

    def __call__(self, x: Array) -> Array:
        """Maps of half the size, or of the same."""
        h = self.first(x if self.is_first else jax.nn.relu(x))
        h = self.second(jax.nn.relu(h))
        x, h = (halved(x), halved(h)) if self.halve else (x, h)
        return h + (x if self.skip is None else self.skip(x))  # of single pixels: after the mean


class ResidualGenerator(eqx.Module):
    """From a vector to an image: an affine map to a small image, residual blocks that double it,
    rectified batch normalization and a 3x3 convolution.

    Args:
        in_dim: the size of what comes in.
        image_shape: (channels, height, width) of the image, whose sizes are divisible by 2 for each
            block.
        hidden_channels: before each block.
        context_shape: of what all blocks are conditioned on beside, such as `Labels(10)`.
        attention: whether the last block is preceded by `SelfAttention`.
        spectral_norm: of all layers, "none", "matrix" or "operator".

    Attributes:
        in_dim, out_shape: the latter is image_shape.

    Shapes:
        h (*batch, in_dim), context (*batch, *context_shape) -> (*batch, *image_shape).

    Raises:
        ValueError: for sizes that cannot be halved that often, an unknown norm, and inputs of the
            wrong shape.

    Example:
        >>> settings = {"hidden_channels": (6, 4), "key": jax.random.key(0)}
        >>> ResidualGenerator(2, (1, 8, 8), **settings)(jnp.zeros((7, 2))).shape
        (7, 1, 8, 8)
    """

    in_dim: int = eqx.field(static=True)
    hidden_channels: tuple[int, ...] = eqx.field(static=True)
    out_shape: tuple[int, int, int] = eqx.field(static=True)
    context_shape: tuple[Any, ...] = eqx.field(static=True)
    start: tuple[int, ...] = eqx.field(static=True)
    input: Any
    blocks: list[GeneratorBlock]
    attention: SelfAttention | None
    norm: ConditionalBatchNorm
    output: Any

    def __init__(
        self,
        in_dim: int,
        image_shape: tuple[int, int, int],
        *,
        hidden_channels: Sequence[int] = (64, 32),
        context_shape: ContextShape = 0,
        attention: bool = False,
        spectral_norm: str = "none",
        key: Array,
    ) -> None:
        self.in_dim = check_count("in_dim", in_dim)
        self.hidden_channels = check_sizes("hidden_channels", hidden_channels, least=1)
        self.out_shape, sizes = check_resolutions(image_shape, len(self.hidden_channels))
        self.context_shape = check_context_shape("context_shape", context_shape)
        channels = (*self.hidden_channels, self.hidden_channels[-1])
        norm, self.start = spectral_norm, (channels[0], *sizes[0])
        first, last, looking, *keys = jax.random.split(key, 3 + len(self.hidden_channels))
        entries = channels[0] * sizes[0][0] * sizes[0][1]
        self.input = normalized(Linear(in_dim, entries, key=first), norm)
        self.blocks = [
            GeneratorBlock(
                *channels[i : i + 2],
                context_shape=context_shape,
                spectral_norm=norm,
                image_size=sizes[i],
                key=k,
            )
            for i, k in enumerate(keys)
        ]
        self.attention = None
        if check_flag("attention", attention):
            of_pixels = "none" if norm == "none" else "matrix"
            self.attention = SelfAttention(channels[-2], spectral_norm=of_pixels, key=looking)
        self.norm = ConditionalBatchNorm(channels[-1], key=last)
        output = Conv2d(channels[-1], self.out_shape[0], key=last)
        self.output = normalized(output, norm, sizes[-1])

    def __call__(self, h: Array, context: Any = None) -> Array:
        """Images from h (*batch, in_dim)."""
        if h.shape[-1:] != (self.in_dim,):
            raise ValueError(
                f"{self} expects a last dimension of {self.in_dim}, got shape {tuple(h.shape)}."
            )
        x = self.input(h).reshape(*h.shape[:-1], *self.start)
        for block in self.blocks[:-1]:
            x = block(x, context)
        x = x if self.attention is None else self.attention(x)
        x = self.blocks[-1](x, context)
        return self.output(jax.nn.relu(self.norm(x)))

    def __repr__(self) -> str:
        return (
            f"ResidualGenerator({self.in_dim}, {self.out_shape}, "
            f"hidden_channels={self.hidden_channels})"
        )


def normalized(layer: Any, norm: str, image_size: tuple[int, int] | None = None) -> Any:
    """A layer with the spectral norm named."""
    if check_choice("spectral_norm", norm, NORMS) == "none":
        return layer
    if norm == "matrix" or isinstance(layer, Linear):
        return SpectralNorm(layer, num_steps=1024)
    return SpectralNorm(layer, norm=norm, image_size=image_size)
