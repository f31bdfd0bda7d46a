"""The gated residual blocks of PixelCNN++ at one resolution, in two forms: all pixels in one pass,
and row by row, pixel by pixel from caches. Channels come last.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array
from jax.nn import elu, sigmoid

from dgm_core.arguments import check_count
from numpyro_dgm.nn.pixels import convolved, uniform

__all__ = ["PixelBlocks"]

# Zeros at the left, right, top and bottom: what v and h may see.
ABOVE, LEFT = (1, 1, 1, 0), (1, 0, 1, 0)


class PixelBlocks(eqx.Module):
    """The blocks of a resolution, and the ways down to the next and up from it.

    Args:
        channels: of both streams.
        num_layers: blocks before the next scale.
        is_last: whether there is no further one.
        context_size: 0 for none.
    """

    v_first: Array
    v_second: Array
    h_first: Array
    h_second: Array
    across: Array
    v_skip: Array
    h_skip: Array
    first_bias: Array
    second_bias: Array
    given: Array | None
    v_down: Any
    h_down: Any
    v_up: Any
    h_up: Any
    v_down_bias: Any
    h_down_bias: Any
    v_up_bias: Any
    h_up_bias: Any
    num_layers: int = eqx.field(static=True)
    num_blocks: int = eqx.field(static=True)
    is_last: bool = eqx.field(static=True)

    def __init__(
        self,
        channels: int,
        num_layers: int,
        is_last: bool,
        context_size: int = 0,
        *,
        key: Array,
    ) -> None:
        behind = num_layers + (not is_last)
        blocks, wide = num_layers + behind, 2 * channels
        self.num_layers, self.num_blocks, self.is_last = num_layers, blocks, is_last
        keys = iter(jax.random.split(key, 12))
        one, two, small = 6 * wide, 4 * wide, 10  # a block begins near the identity
        self.v_first = uniform(next(keys), blocks, 2, 3, wide, channels, inputs=one)
        self.v_second = uniform(next(keys), blocks, 2, 3, wide, wide, inputs=one * small**2)
        self.h_first = uniform(next(keys), blocks, 2, 2, wide, channels, inputs=two)
        self.h_second = uniform(next(keys), blocks, 2, 2, wide, wide, inputs=two * small**2)
        self.across = uniform(next(keys), blocks, wide, channels, inputs=wide)
        self.v_skip = uniform(next(keys), behind, wide, channels, inputs=wide)
        self.h_skip = uniform(next(keys), behind, wide, channels, inputs=wide)
        self.first_bias = jnp.zeros((2, blocks, channels))
        self.second_bias = jnp.zeros((2, blocks, wide))
        self.given = None
        if check_count("context_size", context_size, 0):
            self.given = uniform(next(keys), blocks, context_size, 2 * wide, inputs=context_size)
        self.v_down = self.h_down = self.v_up = self.h_up = None
        self.v_down_bias = self.h_down_bias = self.v_up_bias = self.h_up_bias = None
        if not is_last:
            self.v_down = uniform(next(keys), 2, 3, channels, channels, inputs=6 * channels)
            self.h_down = uniform(next(keys), 2, 2, channels, channels, inputs=4 * channels)
            self.v_up = uniform(next(keys), 2, 2, channels, channels, inputs=channels)
            self.h_up = uniform(next(keys), 2, 2, channels, channels, inputs=channels)
            self.v_down_bias = jnp.zeros(channels)
            self.h_down_bias = jnp.zeros(channels)
            self.v_up_bias = jnp.zeros(channels)
            self.h_up_bias = jnp.zeros(channels)

    def __call__(
        self,
        block: int,
        v: Array,
        h: Array,
        context: Array | None,
        v_saved: Array | None = None,
        h_saved: Array | None = None,
    ) -> tuple[Array, Array]:
        """Both streams behind a block, all pixels in one pass."""
        above, beside = self._given(block, context)
        y = convolved(units(v), self.v_first[block], ABOVE)
        y = y + self.first_bias[0, block] + self._short_cut(self.v_skip, block, v_saved)
        y = convolved(units(y), self.v_second[block], ABOVE) + self.second_bias[0, block]
        v = v + gate(y + above)
        y = convolved(units(h), self.h_first[block], LEFT) + units(v) @ self.across[block]
        y = y + self.first_bias[1, block] + self._short_cut(self.h_skip, block, h_saved)
        y = convolved(units(y), self.h_second[block], LEFT) + self.second_bias[1, block]
        return v, h + gate(y + beside)

    def _given(self, block: int, context: Array | None) -> tuple[Any, Any]:
        """What the context adds in a block to v and to h."""
        if context is None or self.given is None:
            return 0.0, 0.0
        above, beside = jnp.split(context @ self.given[block], 2, -1)
        return above, beside

    def _short_cut(self, weight: Array, block: int, saved: Array | None) -> Any:
        """What an earlier state adds in a block behind the next scale."""
        return 0.0 if saved is None else units(saved) @ weight[block - self.num_layers]

    def begin(self, num: int, width: int, context: Array | None) -> dict[str, Any]:
        """The caches before the first row: of the inputs of all convolutions, with zeros at the
        sides, the row above for v and the current one for h, and what h sees of the row above.
        """
        blocks, wide, channels = self.num_blocks, *self.across.shape[1:]

        def zeros(*shape: int) -> Array:
            return jnp.zeros(shape, self.across.dtype)

        caches = {
            "context": context,
            "v_first": zeros(blocks, num, width + 2, wide),
            "v_second": zeros(blocks, num, width + 2, wide),
            "first": zeros(blocks, num, width + 1, wide),
            "second": zeros(blocks, num, width + 1, wide),
            "given_first": zeros(blocks, num, width, channels),
            "given_second": zeros(blocks, num, width, wide),
        }
        if not self.is_last:
            half = (width + 1) // 2
            caches |= {
                "v_down": zeros(num, width + 2, channels),
                "down": zeros(num, 2 * half + 1, channels),
                "given_down": zeros(num, half, channels),
                "v_low": zeros(num, half, channels),
                "h_low": zeros(num, half, channels),
            }
        return caches

    def above(self, cache: dict[str, Any], row: Array) -> list[Any]:
        """The caches with what h sees of the row above, whose inputs are all known now, and of the
        context; and what the context adds to v in each block.
        """
        context = cache["context"]
        if context is not None and context.shape[1] > 1:
            context = jax.lax.dynamic_slice_in_dim(context, row, 1, 1)
        for name, weight, bias in (
            ("first", self.h_first, self.first_bias[1]),
            ("second", self.h_second, self.second_bias[1]),
        ):
            past = cache[name]
            cache[f"given_{name}"] = (
                past[:, :, :-1] @ weight[:, None, 0, 0]
                + past[:, :, 1:] @ weight[:, None, 0, 1]
                + bias[:, None, None]
            )
            cache[name] = jnp.zeros_like(past)
        given = [self._given(block, context) for block in range(self.num_blocks)]
        if context is not None:
            cache["given_second"] += jnp.stack([beside[:, 0] for _, beside in given])
        if self.h_down is not None:
            past, (weight, _) = cache["down"], self.h_down
            cache["given_down"] = (
                past[:, :-1:2] @ weight[0] + past[:, 1::2] @ weight[1] + self.h_down_bias
            )
            cache["down"] = jnp.zeros_like(past)
        return [0.0 if context is None else over[:, 0] for over, _ in given]

    def enter(
        self,
        cache: dict[str, Any],
        block: int,
        over: Any,
        v: Array,
        saved: Array | None = None,
    ) -> Array:
        """v behind a block, in a row (batch, width, channels)."""
        y = below(cache, ("v_first", block), units(v), self.v_first[block])
        y = y + self.first_bias[0, block] + self._short_cut(self.v_skip, block, saved)
        y = below(cache, ("v_second", block), units(y), self.v_second[block])
        v = v + gate(y + self.second_bias[0, block] + over)
        seen = units(v) @ self.across[block]
        cache["given_first"] = cache["given_first"].at[block].add(seen)
        return v

    def enter_down(self, cache: dict[str, Any], v: Array) -> Array:
        """v at the next scale, in a row (batch, half the width, channels)."""
        return below(cache, ("v_down", ...), v, self.v_down)[:, ::2] + self.v_down_bias

    def left(self, cache: dict[str, Any], column: Array) -> tuple[Array, Array]:
        """What the convolutions of h see but the pixel itself, in all blocks."""
        first = cache["first"][:, :, column] @ self.h_first[:, 1, 0]
        second = cache["second"][:, :, column] @ self.h_second[:, 1, 0]
        return (
            first + cache["given_first"][:, :, column],
            second + cache["given_second"][:, :, column],
        )

    def advance(
        self,
        cache: dict[str, Any],
        block: int,
        column: Array,
        left: tuple[Array, Array],
        h: Array,
        saved: Array | None = None,
    ) -> Array:
        """h behind a block, at a pixel (batch, channels)."""
        first = units(h)
        cache["first"] = cache["first"].at[block, :, column + 1].set(first)
        y = left[0][block] + first @ self.h_first[block, 1, 1]
        second = units(y + self._short_cut(self.h_skip, block, saved))
        cache["second"] = cache["second"].at[block, :, column + 1].set(second)
        return h + gate(left[1][block] + second @ self.h_second[block, 1, 1])

    def advance_down(self, cache: dict[str, Any], column: Array, h: Array) -> Array:
        """h at the next scale, at an even pixel (batch, channels)."""
        past = cache["down"][:, column] @ self.h_down[1, 0]
        return cache["given_down"][:, column // 2] + past + h @ self.h_down[1, 1]


def units(x: Array) -> Array:
    """Concatenated exponential linear units: elu([x, -x])."""
    return elu(jnp.concatenate([x, -x], -1))


def gate(x: Array) -> Array:
    """The first half of the channels times the sigmoid of the second."""
    a, b = jnp.split(x, 2, -1)
    return a * sigmoid(b)


def coarse(context: Array | None) -> Array | None:
    """A context at every second row and column, as the next scale has it."""
    return None if context is None else context[:, ::2, ::2]


def raised(x: Array, weight: Array) -> Array:
    """Four pixels for each, by weight (2, 2, channels, channels)."""
    num, height, width, _ = x.shape
    pixels = jnp.einsum("nhwc,abcd->nhawbd", x, weight)
    return pixels.reshape(num, 2 * height, 2 * width, -1)


def below(cache: dict[str, Any], place: tuple[str, Any], x: Array, weight: Array) -> Array:
    """A row x (batch, width, in) and the row above at a place of a cache, which x then replaces,
    correlated with weight (2, 3, in, out).
    """
    name, index = place
    row = jnp.pad(x, ((0, 0), (1, 1), (0, 0)))
    above = cache[name][index]
    y = convolved(jnp.stack([above, row], 1), weight, (0, 0, 0, 0))[:, 0]
    cache[name] = cache[name].at[index].set(row)
    return y
