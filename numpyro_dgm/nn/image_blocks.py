"""Parts of networks over images (batch, channels, height, width): normalization without a state,
residual blocks that a vector modulates, attention over all pixels, halving and doubling.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

from dgm_core.attention import full_attention
from dgm_core.images import group_count
from numpyro_dgm.nn.attention import MaskedAttention
from numpyro_dgm.nn.convolution import by_pixel
from numpyro_dgm.nn.image_layers import Conv2d
from numpyro_dgm.nn.layers import Linear, activate

__all__: list[str] = []


class GroupNorm(eqx.Module):
    """Normalization of the groups of channels of each image by itself, with statistics over pixels
    and the channels of a group: y = weight (x - mean) / sqrt(variance + 1e-5) + bias.

    References:
        Wu & He (2018), arXiv:1803.08494.
    """

    weight: Array
    bias: Array

    def __init__(self, channels: int) -> None:
        self.weight, self.bias = jnp.ones(channels), jnp.zeros(channels)

    def __call__(self, x: Array) -> Array:
        groups = x.reshape(len(x), group_count(len(self.weight)), -1)
        centered = groups - groups.mean(-1, keepdims=True)
        variance = (centered**2).mean(-1, keepdims=True)
        normed = (centered * jax.lax.rsqrt(variance + 1e-5)).reshape(x.shape)
        return normed * self.weight[:, None, None] + self.bias[:, None, None]


class ResidualBlock(eqx.Module):
    """h = W f(norm(x)),  x' = S x + W' f((1 + a) norm(h) + b),  where (a, b) = V e + v of a vector
    e, 0 without one; W, W' are convolutions, S is the identity where the channels stay.

    Args:
        in_channels: of x.
        out_channels: of x'.
        embedding_dim: of e; 0 for none.
        activation: f.
    """

    activation: str = eqx.field(static=True)
    first_norm: GroupNorm
    first: Conv2d
    second_norm: GroupNorm
    second: Conv2d
    modulation: Linear | None
    skip: Linear | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        embedding_dim: int,
        activation: str,
        *,
        key: Array,
    ) -> None:
        self.activation, sizes = activation, (in_channels, out_channels)
        keys = jax.random.split(key, 4)
        self.first_norm, self.first = GroupNorm(in_channels), Conv2d(*sizes, key=keys[0])
        self.second_norm = GroupNorm(out_channels)
        self.second = Conv2d(out_channels, out_channels, key=keys[1])
        modulation = (embedding_dim, 2 * out_channels)
        self.modulation = Linear(*modulation, key=keys[2]) if embedding_dim else None
        self.skip = Linear(*sizes, key=keys[3]) if in_channels != out_channels else None

    def __call__(self, x: Array, e: Array | None = None) -> Array:
        """Map x (batch, in_channels, height, width), given e (batch, embedding_dim)."""
        h = self.first(activate(self.activation, self.first_norm(x)))
        h = self.second_norm(h)
        if self.modulation is not None and e is not None:
            scale, shift = jnp.split(self.modulation(e)[..., None, None], 2, 1)
            h = h * (1.0 + scale) + shift
        h = self.second(activate(self.activation, h))
        return h + (x if self.skip is None else by_pixel(self.skip, x))


class PixelAttention(eqx.Module):
    """x' = x + attention(norm(x)), in which every pixel sees all.

    Args:
        channels: of x.
        pixels: (height, width).
        num_heads: of the attention.
    """

    norm: GroupNorm
    attention: MaskedAttention

    def __init__(
        self, channels: int, pixels: tuple[int, int], num_heads: int, *, key: Array
    ) -> None:
        self.norm = GroupNorm(channels)
        pattern = full_attention(pixels[0] * pixels[1])
        self.attention = MaskedAttention(channels, pattern, num_heads=num_heads, key=key)

    def __call__(self, x: Array) -> Array:
        """Map x (batch, channels, height, width)."""
        h = self.norm(x).reshape(*x.shape[:2], -1).mT
        return x + self.attention(h).mT.reshape(x.shape)


def halved(x: Array) -> Array:
    """Means of 2x2 pixels, those of the last row and column taken twice where there are odd ones.

    Example:
        >>> halved(jnp.array([[[[1.0, 3.0, 5.0]]]]))
        Array([[[[2., 5.]]]], dtype=float32)
    """
    height, width = x.shape[-2:]
    x = jnp.pad(x, ((0, 0), (0, 0), (0, height % 2), (0, width % 2)), mode="edge")
    blocks = x.reshape(*x.shape[:2], (height + 1) // 2, 2, (width + 1) // 2, 2)
    return blocks.mean((3, 5))


def doubled(x: Array, pixels: tuple[int, ...]) -> Array:
    """Every pixel as 2x2, without the last row and column where there are odd ones.

    Example:
        >>> doubled(jnp.array([[[[2.0, 5.0]]]]), (1, 3))
        Array([[[[2., 2., 5.]]]], dtype=float32)
    """
    batch, channels, height, width = x.shape
    blocks = jnp.broadcast_to(x[:, :, :, None, :, None], (batch, channels, height, 2, width, 2))
    x = blocks.reshape(batch, channels, 2 * height, 2 * width)
    return x[..., : pixels[0], : pixels[1]]
