"""The network of PixelCNN++, over the pixels of an image in raster order, in two forms: all pixels
in one pass, and pixel by pixel from caches. Channels come last: (*batch, height, width, channels).
"""

from math import prod
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

from dgm_core.arguments import check_counts
from numpyro_dgm.nn.pixel_blocks import ABOVE, LEFT, PixelBlocks, coarse, raised
from numpyro_dgm.nn.pixels import convolved, uniform

__all__ = ["PixelScales"]


class PixelScales(eqx.Module):
    """Gated residual blocks at several resolutions, with short cuts, none of which sees a pixel or
    what comes after it.

    A stream v sees the rows above a pixel, a stream h the pixels at its left and, through v, the
    rows above. With concatenated units e(x) = elu([x, -x]), a block adds  a sigmoid(b)  to v, where
    [a, b] = V' e(V e(v) + S e(s)) + C c,  s from the short cut, and likewise to h, with a term
    A e(v). V are convolutions over the row above and its own (2x3 and 2x2), in which a scale has
    half the rows and columns of the one before.

    Args:
        in_channels: of the image.
        channels: of v and h.
        num_layers: blocks before the next scale and, with one more, behind it.
        num_scales: 1 for the resolution of the image alone.
        context_size: of c, a vector for each pixel or for all; 0 for none.

    Shapes:
        x (*batch, height, width, in_channels), c (*batch, height or 1, width or 1, context_size)
        -> (*batch, height, width, channels); any height and width.

    Cost:
        The incremental form keeps a row of all blocks; a scale moves on at every second row and
        column of the one before.

    Raises:
        ValueError: if a size is wrong.

    References:
        Salimans et al. (2017), arXiv:1701.05517; Ramachandran et al. (2017), arXiv:1704.06001.

    Example:
        >>> net = PixelScales(1, 4, num_layers=1, num_scales=2, key=jax.random.key(0))
        >>> net(jnp.zeros((7, 8, 8, 1))).shape
        (7, 8, 8, 4)
    """

    vertical: Array
    vertical_bias: Array
    above: Array
    left: Array
    bias: Array
    scales: list[PixelBlocks]
    in_channels: int = eqx.field(static=True)
    channels: int = eqx.field(static=True)
    num_scales: int = eqx.field(static=True)

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        num_layers: int = 2,
        num_scales: int = 3,
        context_size: int = 0,
        key: Array,
    ) -> None:
        in_channels, channels, num_layers, num_scales = check_counts(
            in_channels=in_channels,
            channels=channels,
            num_layers=num_layers,
            num_scales=num_scales,
        )
        self.in_channels, self.channels, self.num_scales = in_channels, channels, num_scales
        keys = jax.random.split(key, 3 + num_scales)
        self.vertical = uniform(keys[0], 2, 3, in_channels, channels, inputs=6 * in_channels)
        self.vertical_bias = jnp.zeros(channels)
        self.above = uniform(keys[1], 3, in_channels, channels, inputs=5 * in_channels)
        self.left = uniform(keys[2], 2, in_channels, channels, inputs=5 * in_channels)
        self.bias = jnp.zeros(channels)
        self.scales = [
            PixelBlocks(channels, num_layers, index + 1 == num_scales, context_size, key=k)
            for index, k in enumerate(keys[3:])
        ]

    def __call__(self, x: Array, context: Array | None = None) -> Array:
        """All pixels in one pass."""
        if x.shape[-1] != self.in_channels:
            raise ValueError(
                f"{self} expects a last dimension of {self.in_channels}, got shape "
                f"{tuple(x.shape)}."
            )
        batch = x.shape[:-3]
        x = jnp.asarray(x.reshape(prod(batch), *x.shape[-3:]), self.bias.dtype)
        height, width = x.shape[1:3]
        if context is not None:
            context = context.reshape(len(x), *context.shape[-3:])
        v = convolved(x, self.vertical, (1, 1, 2, 0))[:, :height] + self.vertical_bias
        h = convolved(x, self.above[None], (1, 1, 1, 0))[:, :height]
        h = h + convolved(x, self.left[:, None], (1, 0, 1, 0))[:, :, :width] + self.bias
        _, h = self._both(0, v, h, context)
        return h.reshape(*batch, height, width, self.channels)

    def _both(self, index: int, v: Array, h: Array, context: Array | None) -> tuple[Array, Array]:
        """The streams behind a scale and all further ones."""
        scale, saved = self.scales[index], [(v, h)]
        for block in range(scale.num_layers):
            v, h = scale(block, v, h, context)
            saved.append((v, h))
        if scale.is_last:
            v, h = saved.pop()
        else:
            height, width = v.shape[1:3]
            v = convolved(v, scale.v_down, ABOVE)[:, ::2, ::2] + scale.v_down_bias
            h = convolved(h, scale.h_down, LEFT)[:, ::2, ::2] + scale.h_down_bias
            v, h = self._both(index + 1, v, h, coarse(context))
            v = raised(v, scale.v_up)[:, :height, :width] + scale.v_up_bias
            h = raised(h, scale.h_up)[:, :height, :width] + scale.h_up_bias
        for block in range(scale.num_layers, scale.num_blocks):
            v, h = scale(block, v, h, context, *saved.pop())
        return v, h

    def begin(self, num: int, width: int, context: Array | None = None) -> dict[str, Any]:
        """The caches before the first row of `num` images of a width."""
        caches: dict[str, Any] = {
            "rows": jnp.zeros((num, 2, width + 2, self.in_channels), self.bias.dtype),
            "row": jnp.zeros((num, width + 1, self.in_channels), self.bias.dtype),
            "stem": jnp.zeros((num, width, self.channels), self.bias.dtype),
            "scales": [],
        }
        for scale in self.scales:
            caches["scales"].append(scale.begin(num, width, context))
            width = (width + 1) // 2
            context = coarse(context)
        return caches

    def enter(self, caches: dict[str, Any], index: Array, last: Array) -> dict[str, Any]:
        """The caches at the beginning of row `index`, given the last pixel (batch, in_channels) of
        the row before: v, and what h sees of the rows above.
        """
        caches = copied(caches)
        row = caches["row"].at[:, -1].set(last)
        done = jnp.pad(row, ((0, 0), (0, 1), (0, 0)))[:, None]
        rows, width = jnp.concatenate([caches["rows"][:, 1:], done], 1), caches["stem"].shape[1]
        caches["rows"] = rows
        caches["stem"] = (
            convolved(rows[:, 1:], self.above[None], (0, 0, 0, 0))[:, 0]
            + rows[:, 1, :width] @ self.left[0]
            + self.bias
        )
        caches["row"] = jnp.zeros_like(row)
        v = convolved(rows, self.vertical, (0, 0, 0, 0))[:, 0] + self.vertical_bias
        self._enter(caches["scales"], 0, index, v)
        return caches

    def _enter(self, caches: list[dict[str, Any]], index: int, row: Array, v: Array) -> Array:
        """v behind a scale and all further ones, in a row (batch, width, channels)."""
        scale, cache = self.scales[index], caches[index]
        given, saved = scale.above(cache, row), [v]
        for block in range(scale.num_layers):
            v = scale.enter(cache, block, given[block], v)
            saved.append(v)
        if scale.is_last:
            v = saved.pop()
        else:
            low, width = scale.enter_down(cache, v), v.shape[1]

            def moved(caches: list[dict[str, Any]]) -> list[dict[str, Any]]:
                caches = copied(caches)
                caches[index]["v_low"] = self._enter(caches, index + 1, row // 2, low)
                return caches

            caches[index:] = jax.lax.cond(row % 2 == 0, moved, copied, caches)[index:]
            cache = caches[index]
            v = jnp.einsum("nwc,bcd->nwbd", cache["v_low"], scale.v_up[row % 2])
            v = v.reshape(len(v), -1, self.channels)[:, :width] + scale.v_up_bias
        for block in range(scale.num_layers, scale.num_blocks):
            v = scale.enter(cache, block, given[block], v, saved.pop())
        return v

    def advance(
        self, caches: dict[str, Any], row: Array, column: Array, last: Array
    ) -> tuple[Array, dict[str, Any]]:
        """The result at a pixel (batch, channels) and the next caches, given the pixel (batch,
        in_channels) at its left: h.
        """
        caches = copied(caches)
        last = jnp.where(column > 0, last, 0.0)
        caches["row"] = caches["row"].at[:, column].set(last)
        h = caches["stem"][:, column] + last @ self.left[1]
        return self._advance(caches["scales"], 0, row, column, h), caches

    def _advance(
        self, caches: list[dict[str, Any]], index: int, row: Array, column: Array, h: Array
    ) -> Array:
        """h behind a scale and all further ones, at a pixel (batch, channels)."""
        scale, cache = self.scales[index], caches[index]
        left, saved = scale.left(cache, column), [h]
        for block in range(scale.num_layers):
            h = scale.advance(cache, block, column, left, h)
            saved.append(h)
        if scale.is_last:
            h = saved.pop()
        else:
            cache["down"] = cache["down"].at[:, column + 1].set(h)
            low = scale.advance_down(cache, column, h)

            def moved(caches: list[dict[str, Any]]) -> list[dict[str, Any]]:
                caches = copied(caches)
                coarse = self._advance(caches, index + 1, row // 2, column // 2, low)
                known = caches[index]["h_low"]
                caches[index]["h_low"] = known.at[:, column // 2].set(coarse)
                return caches

            moves = (row % 2 == 0) & (column % 2 == 0)
            caches[index:] = jax.lax.cond(moves, moved, copied, caches)[index:]
            cache = caches[index]
            low = cache["h_low"][:, column // 2]
            h = low @ scale.h_up[row % 2, column % 2] + scale.h_up_bias
        for block in range(scale.num_layers, scale.num_blocks):
            h = scale.advance(cache, block, column, left, h, saved.pop())
        return h

    def __repr__(self) -> str:
        sizes = f"{self.in_channels}, {self.channels}, num_layers={self.scales[0].num_layers}"
        return f"PixelScales({sizes}, num_scales={self.num_scales})"


def copied(caches: Any) -> Any:
    """The same arrays in dictionaries and lists of their own."""
    return jax.tree.map(lambda x: x, caches)
