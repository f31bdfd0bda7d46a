"""Networks from images to images of the same height and width: the U-Net."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

from dgm_core.arguments import check_count, check_image_shape, check_instance, check_sizes
from dgm_core.contexts import ContextShape, check_context, check_context_shape, parts_of
from dgm_core.images import check_images, context_parts, scales
from numpyro_dgm.nn.contexts import as_map, batch_shape_of, flat, spread, visible
from numpyro_dgm.nn.image_blocks import (
    GroupNorm,
    PixelAttention,
    ResidualBlock,
    doubled,
    halved,
)
from numpyro_dgm.nn.image_layers import Conv2d
from numpyro_dgm.nn.layers import activate, check_activation
from numpyro_dgm.nn.mlp import MLP
from numpyro_dgm.nn.time_features import TimeFeatures

__all__ = ["UNet"]


class UNet(eqx.Module):
    """From images to features of each pixel, given a time and a context: residual blocks at several
    resolutions, those of the way down handed to the way up.

    Scale s has half the height and width of scale s - 1 (means of 2x2 pixels), rounded up, and
    channels[s] channels. The time and all vectors and labels of the context become one vector,
    which scales and shifts the features in every block; maps are further channels of the image.
    Normalization is that of groups of channels in each image: a batch of one is like any other.

    Args:
        image_shape: (channels, height, width) of x.
        channels: of each scale, the finest first.
        out_channels: features of a pixel (default: the channels of x).
        num_blocks: residual blocks of a scale, on the way down and on the way up.
        num_heads: of an attention between all pixels of the coarsest scale; 0 for none.
        time: the features of a time, if there is one: `TimeFeatures(32)`.
        context_shape: the shape of c: a size, a map (channels, height, width), `Labels`, or a tuple
            of these.
        embedding_dim: of that vector (default 4 channels[0]).
        activation: as in `MLP`.

    Attributes:
        out_shape: (out_channels, height, width).

    Shapes:
        x (*batch, *image_shape), t (*batch,) or (), context (*batch, *context_shape) ->
        (*batch, *out_shape), where batches broadcast.

    Raises:
        ValueError: for images too small for that many scales, a map with other pixels, heads that
            do not divide the channels of the coarsest scale; on calls for an x or a context of
            another shape, and for a time where none is expected or the other way round.

    References:
        Ronneberger et al. (2015), arXiv:1505.04597; Ho et al. (2020), arXiv:2006.11239.

    Example:
        >>> net = UNet((1, 5, 7), channels=(4, 8), time=TimeFeatures(6), key=jax.random.key(0))
        >>> net(jnp.zeros((3, 1, 5, 7)), jnp.zeros(3)).shape
        (3, 1, 5, 7)
    """

    image_shape: tuple[int, int, int] = eqx.field(static=True)
    channels: tuple[int, ...] = eqx.field(static=True)
    num_blocks: int = eqx.field(static=True)
    num_heads: int = eqx.field(static=True)
    activation: str = eqx.field(static=True)
    context_shape: tuple[Any, ...] = eqx.field(static=True)
    sizes: list[tuple[int, int]] = eqx.field(static=True)
    out_shape: tuple[int, int, int] = eqx.field(static=True)
    maps: tuple[Any, ...] = eqx.field(static=True)
    time: TimeFeatures | None
    embedding: MLP | None
    input: Conv2d
    down: list[list[ResidualBlock]]
    middle: list[ResidualBlock]
    attention: PixelAttention | None
    up: list[list[ResidualBlock]]
    norm: GroupNorm
    output: Conv2d

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        *,
        channels: Sequence[int] = (16, 32),
        out_channels: int | None = None,
        num_blocks: int = 1,
        num_heads: int = 0,
        time: TimeFeatures | None = None,
        context_shape: ContextShape = 0,
        embedding_dim: int | None = None,
        activation: str = "silu",
        key: Array,
    ) -> None:
        self.image_shape = check_image_shape("image_shape", image_shape)
        self.channels = check_sizes("channels", channels, least=1)
        self.num_blocks = check_count("num_blocks", num_blocks)
        self.num_heads = check_count("num_heads", num_heads, 0)
        self.activation = check_activation(activation)
        self.context_shape = check_context_shape("context_shape", context_shape)
        if time is not None:
            check_instance("time", time, TimeFeatures, "the features of a time or None")
        out = self.image_shape[0] if out_channels is None else out_channels
        self.sizes = scales(self.image_shape, len(self.channels))
        self.out_shape = (check_count("out_channels", out), *self.sizes[0])
        self.maps, map_entries, entries = context_parts(self.context_shape, self.sizes[0])
        size = (4 * self.channels[0]) if embedding_dim is None else embedding_dim
        size = check_count("embedding_dim", size)
        entries += 0 if time is None else time.out_dim
        self.time = time
        keys = jax.random.split(key, 4 + 2 * len(self.channels))
        self.embedding = (
            MLP(entries, (size, size), activation=activation, key=keys[0]) if entries else None
        )
        size = size if entries else 0

        def blocks(first: int, width: int, key: Array) -> list[ResidualBlock]:
            widths = (first, *[width] * (num_blocks - 1))
            keys = jax.random.split(key, num_blocks)
            return [ResidualBlock(w, width, size, activation, key=k) for w, k in zip(widths, keys)]

        finer, wide = self.channels[:-1], self.channels[-1]
        self.input = Conv2d(self.image_shape[0] + map_entries, self.channels[0], key=keys[1])
        self.down = [
            blocks(self.channels[max(i - 1, 0)], width, k)
            for i, (width, k) in enumerate(zip(finer, keys[5::2]))
        ]
        self.middle = blocks((self.channels[0], *finer)[-1], wide, keys[2])
        coarsest = (wide, self.sizes[-1], self.num_heads)
        self.attention = PixelAttention(*coarsest, key=keys[3]) if self.num_heads else None
        self.up = [
            blocks(width + self.channels[i + 1], width, k)
            for i, (width, k) in enumerate(zip(finer, keys[6::2]))
        ]
        self.norm = GroupNorm(self.channels[0])
        self.output = Conv2d(self.channels[0], self.out_shape[0], key=keys[4])

    def __call__(self, x: Array, t: Any = None, context: Any = None) -> Array:
        """Features of the pixels of x (*batch, *image_shape), at time t, given a context."""
        x, embedded, batch = self._inputs(x, t, context)
        x, saved = self.input(x), []
        for blocks in self.down:
            for block in blocks:
                x = block(x, embedded)
            saved.append(x)
            x = halved(x)
        for block in self.middle:
            x = block(x, embedded)
        if self.attention is not None:
            x = self.attention(x)
        for blocks in reversed(self.up):
            kept = saved.pop()
            x = jnp.concatenate((doubled(x, kept.shape[-2:]), kept), 1)
            for block in blocks:
                x = block(x, embedded)
        x = self.output(activate(self.activation, self.norm(x)))
        return x.reshape(*batch, *self.out_shape)

    def _inputs(self, x: Array, t: Any, context: Any) -> tuple[Array, Array | None, Any]:
        """Images with the maps behind them and what modulates the blocks, with one batch dimension;
        the shape of the batch.
        """
        split, dtype = check_images(self, x, self.image_shape), self.output.weight.dtype
        check_context(self, context, self.context_shape)
        if (t is None) != (self.time is None):
            raise ValueError(
                f"{self} needs a time t: call it with (x, t)."
                if t is None
                else f"{self} takes no time; build it with time=TimeFeatures(32)."
            )
        context = visible(context, self.context_shape)
        t = jnp.asarray(0.0 if t is None else t, dtype)
        batch = jnp.broadcast_shapes(
            x.shape[:split], t.shape, batch_shape_of(context, self.context_shape)
        )
        x = jnp.broadcast_to(x, (*batch, *self.image_shape)).reshape(-1, *self.image_shape)
        x, parts = jnp.asarray(x, dtype), parts_of(self.context_shape)
        context = spread(context, self.context_shape, batch)
        context = context if isinstance(context, tuple) else (context,)
        pairs = list(zip(context, parts))
        vectors = [jnp.asarray(flat(c, s), dtype) for c, s in pairs if len(s) != 3]
        if self.maps:
            maps = tuple(jnp.asarray(c, dtype) for c, s in pairs if len(s) == 3)
            x = jnp.concatenate((x, as_map(maps, self.maps, self.sizes[0])), 1)
        if self.time is not None:
            vectors = [self.time(jnp.broadcast_to(t, batch).reshape(-1)), *vectors]
        return (
            x,
            None if self.embedding is None else self.embedding(jnp.concatenate(vectors, -1)),
            batch,
        )

    def __repr__(self) -> str:
        return f"UNet({self.image_shape}, channels={self.channels})"
