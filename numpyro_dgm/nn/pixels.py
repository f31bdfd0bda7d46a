"""Networks over the pixels of an image in raster order, each in two forms: all pixels in one pass,
and pixel by pixel from caches. Channels come last here: (*batch, height, width, channels).
"""

from math import prod, sqrt
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.nn import sigmoid
from numpy.typing import NDArray

from dgm_core.arguments import check_choice, check_count, check_counts
from dgm_core.pixels import check_kernel_size, pixel_mask
from numpyro_dgm.nn.initial import placed, uniform_draws

__all__ = ["MaskedConv2d", "PixelStacks"]


def uniform(key: Array, *shape: int, inputs: int) -> Array:
    """A weight from U(-1/sqrt(inputs), 1/sqrt(inputs))."""
    return placed(uniform_draws(key, shape, 1.0 / sqrt(inputs)))


def convolved(x: Array, weight: Array, padding: tuple[int, int, int, int]) -> Array:
    """x (batch, height, width, in) with zeros at the left, right, top and bottom, correlated with
    weight (rows, columns, in, out).
    """
    left, right, top, bottom = padding
    return jax.lax.conv_general_dilated(
        x,
        weight,
        (1, 1),
        ((top, bottom), (left, right)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


class MaskedConv2d(eqx.Module):
    """A convolution (cross-correlation) that sees pixels before each one in raster order, and of
    the pixel itself nothing (kind "A") or all (kind "B").

    With groups, channels are ordered: of its own pixel, group g of the output sees the groups
    before g ("A") or up to g ("B") of the input.

    Args:
        in_channels: of the image.
        out_channels: of the result.
        kernel_size: odd.
        kind: "A" in the first layer, "B" behind it.
        groups: of channels, in both.

    Attributes:
        weight (kernel_size, kernel_size, in_channels, out_channels), bias (out_channels,).

    Shapes:
        x (*batch, height, width, in_channels) -> (*batch, height, width, out_channels).

    Raises:
        ValueError: if a size is wrong, or the groups do not divide the channels.

    References:
        van den Oord et al. (2016), arXiv:1601.06759.

    Example:
        >>> MaskedConv2d(1, 6, kind="A", key=jax.random.key(0))(jnp.zeros((7, 8, 8, 1))).shape
        (7, 8, 8, 6)
    """

    weight: Array
    bias: Array
    in_channels: int = eqx.field(static=True)
    out_channels: int = eqx.field(static=True)
    kernel_size: int = eqx.field(static=True)
    kind: str = eqx.field(static=True)
    groups: int = eqx.field(static=True)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        *,
        kind: str = "B",
        groups: int = 1,
        key: Array,
    ) -> None:
        in_channels, out_channels, groups = check_counts(
            in_channels=in_channels, out_channels=out_channels, groups=groups
        )
        check_choice("kind", kind, ("A", "B"))
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size, self.kind = check_kernel_size(kernel_size), kind
        if in_channels % groups or out_channels % groups:
            raise ValueError(
                f"groups must divide the channels {in_channels} and {out_channels}, got {groups}."
            )
        self.groups = groups
        shape = (kernel_size, kernel_size, in_channels, out_channels)
        self.weight = uniform(key, *shape, inputs=int(self._mask[..., -1].sum()) or 1)
        self.bias = jnp.zeros(out_channels)

    @property
    def _mask(self) -> NDArray[np.bool_]:
        """Which weights count."""
        sizes = self.kernel_size, self.in_channels, self.out_channels
        return pixel_mask(self.kind, *sizes, self.groups)

    def masked(self) -> Array:
        """The weights that count."""
        return jnp.where(self._mask, self.weight, 0.0)

    def __call__(self, x: Array) -> Array:
        """All pixels in one pass."""
        if x.shape[-1] != self.in_channels:
            raise ValueError(
                f"{self} expects a last dimension of {self.in_channels}, got shape "
                f"{tuple(x.shape)}."
            )
        reach = self.kernel_size // 2
        y = convolved(
            jnp.asarray(x.reshape(-1, *x.shape[-3:]), self.weight.dtype),
            self.masked()[: reach + 1],
            (reach, reach, reach, 0),
        )
        return (y + self.bias).reshape(*x.shape[:-1], self.out_channels)

    def taps(self) -> tuple[Array, Array]:
        """What a pixel takes from the window around it, the rows above and its own: the weights of
        the pixels before it, one pixel behind the other and zeros for the others, ((reach + 1)
        kernel_size in_channels, out_channels), and those of its own channels (in_channels,
        out_channels).
        """
        reach = self.kernel_size // 2
        weight = self.masked()[: reach + 1]
        past = weight.at[reach, reach:].set(0.0)
        return past.reshape(-1, self.out_channels), weight[reach, reach]

    def __repr__(self) -> str:
        sizes = f"{self.in_channels}, {self.out_channels}, {self.kernel_size}"
        return f"MaskedConv2d({sizes}, kind={self.kind!r})"


class PixelStacks(eqx.Module):
    """A stack of gated masked convolutions without a blind spot.

    A vertical stack v sees all rows above a pixel, a horizontal one h the pixels at its left and,
    through v, the rows above. With the convolutions V, H of layer l and gate(a, b) = tanh(a)
    sigmoid(b):  p = V_l v + C_l c,  v <- gate(p),  g_l = gate(H_l h + A_l p + D_l c),  h <- h +
    R_l g_l,  and the result is the sum of S_l g_l.

    Args:
        in_channels: of the image.
        channels: of v and h.
        num_layers: at least 2.
        out_channels: of the result.
        kernel_size: odd.
        context_size: of c, a vector for each pixel or for all; 0 for none.

    Shapes:
        x (*batch, height, width, in_channels), c (*batch, height or 1, width or 1, context_size)
        -> (*batch, height, width, out_channels).

    Cost:
        The incremental form keeps kernel_size // 2 rows of all layers; it computes v a row at a
        time and h a pixel at a time, the taps at the left of all layers in one product.

    Raises:
        ValueError: if a size is wrong.

    References:
        van den Oord et al. (2016), arXiv:1606.05328; Ramachandran et al. (2017), arXiv:1704.06001.

    Example:
        >>> PixelStacks(1, 4, 2, 5, key=jax.random.key(0))(jnp.zeros((7, 8, 8, 1))).shape
        (7, 8, 8, 5)
    """

    vertical_first: Array
    vertical: Array
    vertical_bias: Array
    left_first: Array
    left: Array
    across: Array
    bias: Array
    residual: Array
    residual_bias: Array
    skip: Array
    skip_bias: Array
    given: Array | None
    in_channels: int = eqx.field(static=True)
    channels: int = eqx.field(static=True)
    out_channels: int = eqx.field(static=True)
    num_layers: int = eqx.field(static=True)
    reach: int = eqx.field(static=True)
    context_size: int = eqx.field(static=True)

    def __init__(
        self,
        in_channels: int,
        channels: int,
        num_layers: int,
        out_channels: int,
        *,
        kernel_size: int = 3,
        context_size: int = 0,
        key: Array,
    ) -> None:
        in_channels, channels, out_channels = check_counts(
            in_channels=in_channels, channels=channels, out_channels=out_channels
        )
        layers = check_count("num_layers", num_layers, 2)
        size = check_kernel_size(kernel_size)
        reach, both = size // 2, 2 * channels
        self.in_channels, self.channels, self.out_channels = in_channels, channels, out_channels
        self.num_layers, self.reach = layers, reach
        self.context_size = check_count("context_size", context_size, 0)
        first, rest = reach * size * in_channels, (reach + 1) * size * channels
        keys = jax.random.split(key, 8)
        self.vertical_first = uniform(keys[0], reach, size, in_channels, both, inputs=first)
        self.vertical = uniform(keys[1], layers - 1, reach + 1, size, channels, both, inputs=rest)
        self.vertical_bias = jnp.zeros((layers, both))
        self.left_first = uniform(keys[2], reach, in_channels, both, inputs=reach * in_channels)
        self.left = uniform(
            keys[3], layers - 1, reach + 1, channels, both, inputs=(reach + 1) * channels
        )
        self.across = uniform(keys[4], layers, both, both, inputs=both)
        self.bias = jnp.zeros((layers, both))
        self.residual = uniform(keys[5], layers - 1, channels, channels, inputs=channels)
        self.residual_bias = jnp.zeros((layers - 1, channels))
        self.skip = uniform(keys[6], layers, channels, out_channels, inputs=channels)
        self.skip_bias = jnp.zeros(out_channels)
        self.given = None
        if context_size:
            self.given = uniform(keys[7], layers, context_size, 2 * both, inputs=context_size)

    def __call__(self, x: Array, context: Array | None = None) -> Array:
        """All pixels in one pass."""
        if x.shape[-1] != self.in_channels:
            raise ValueError(
                f"{self} expects a last dimension of {self.in_channels}, got shape "
                f"{tuple(x.shape)}."
            )
        batch, reach = x.shape[:-3], self.reach
        x = jnp.asarray(x.reshape(prod(batch), *x.shape[-3:]), self.bias.dtype)
        height, width = x.shape[1:3]
        if context is not None:
            context = context.reshape(len(x), *context.shape[-3:])
        v, h, total = x, x, jnp.zeros((), x.dtype)
        for index in range(self.num_layers):
            above, beside = self._given(index, context)
            if index == 0:
                p = convolved(v, self.vertical_first, (reach, reach, reach, 0))[:, :height]
                left = convolved(h, self.left_first[None], (reach, 0, 0, 0))[:, :, :width]
            else:
                p = convolved(v, self.vertical[index - 1], (reach, reach, reach, 0))
                left = convolved(h, self.left[index - 1][None], (reach, 0, 0, 0))
            p = p + self.vertical_bias[index] + above
            g = gate(left + p @ self.across[index] + self.bias[index] + beside)
            total = total + g @ self.skip[index]
            if index < self.num_layers - 1:
                v = gate(p)
                step = g @ self.residual[index] + self.residual_bias[index]
                h = step if index == 0 else h + step
        return (total + self.skip_bias).reshape(*batch, height, width, self.out_channels)

    def _given(self, index: int, context: Array | None) -> tuple[Any, Any]:
        """What the context adds in a layer to the vertical and to the horizontal stack."""
        if context is None or self.given is None:
            return 0.0, 0.0
        above, beside = jnp.split(context @ self.given[index], 2, -1)
        return above, beside

    def begin(self, num: int, width: int, context: Array | None = None) -> dict[str, Any]:
        """The caches before the first row of `num` images of a width."""
        reach, layers = self.reach, self.num_layers

        def zeros(*shape: int) -> Array:
            return jnp.zeros(shape, self.bias.dtype)

        shift = jnp.cumsum(self.residual_bias, 0)  # of h, which the caches hold
        own = self.left[:, reach]
        return {
            "context": context,
            "rows": zeros(num, reach, width + 2 * reach, self.in_channels),
            "above": zeros(layers - 1, num, reach, width + 2 * reach, self.channels),
            "given": zeros(layers, num, width, 2 * self.channels),
            "row": zeros(num, width + reach, self.in_channels),
            "hidden": zeros(layers - 1, num, width + reach, self.channels),
            "left_first": self.left_first.reshape(reach * self.in_channels, -1),
            "left": self.left[:, :reach].reshape(layers - 1, reach * self.channels, -1),
            "own": own,
            "bias": self.bias.at[1:].add((shift[:, None] @ own)[:, 0]),
            "shift": shift[:, None],
            "residual": self.residual,
            "skip": self.skip.reshape(layers * self.channels, -1),
        }

    def enter(self, caches: dict[str, Any], index: Array, last: Array) -> dict[str, Any]:
        """The caches at the beginning of row `index`, given the last pixel (batch, in_channels) of
        the row before: the vertical stack.
        """
        reach, layers = self.reach, self.num_layers
        context, sides = caches["context"], ((0, 0), (0, 0), (reach, reach), (0, 0))
        row = caches["row"].at[:, -1].set(last)
        done = jnp.pad(row[:, None, reach:], sides)
        done = jnp.where(index > 0, done, 0.0)
        rows = jnp.concatenate([caches["rows"], done], 1)[:, 1:]
        if context is not None and context.shape[1] > 1:
            context = jax.lax.dynamic_slice_in_dim(context, index, 1, 1)
        v, above, given = rows, [], []
        for layer in range(layers):
            weight = self.vertical_first if layer == 0 else self.vertical[layer - 1]
            over, beside = self._given(layer, context)
            p = convolved(v, weight, (0, 0, 0, 0)) + self.vertical_bias[layer] + over
            given.append((p @ self.across[layer] + caches["bias"][layer] + beside)[:, 0])
            if layer < layers - 1:
                v = jnp.concatenate([caches["above"][layer], jnp.pad(gate(p), sides)], 1)
                above.append(v[:, 1:])
        return {
            **caches,
            "rows": rows,
            "above": jnp.stack(above),
            "given": jnp.stack(given),
            "row": jnp.zeros_like(row),
            "hidden": jnp.zeros_like(caches["hidden"]),
        }

    def advance(
        self, caches: dict[str, Any], column: Array, last: Array
    ) -> tuple[Array, dict[str, Any]]:
        """The result at a pixel (batch, out_channels) and the next caches, given the pixel (batch,
        in_channels) at its left: the horizontal stack.
        """
        reach, num = self.reach, len(last)
        last = jnp.where(column > 0, last, 0.0)
        row = caches["row"].at[:, column + reach - 1].set(last)
        given = caches["given"][:, :, column]
        window = jax.lax.dynamic_slice_in_dim(row, column, reach, 1).reshape(num, -1)
        first = given[0] + window @ caches["left_first"]
        window = jax.lax.dynamic_slice_in_dim(caches["hidden"], column, reach, 2)
        left = given[1:] + window.reshape(self.num_layers - 1, num, -1) @ caches["left"]
        gates = [gate(first)]
        h = gates[0] @ caches["residual"][0]
        states = [h]
        for layer in range(1, self.num_layers):
            gates.append(gate(left[layer - 1] + h @ caches["own"][layer - 1]))
            if layer < self.num_layers - 1:
                h = h + gates[-1] @ caches["residual"][layer]
                states.append(h)
        states = jnp.stack(states) + caches["shift"]
        hidden = caches["hidden"].at[:, :, column + reach].set(states)
        total = self.skip_bias + jnp.concatenate(gates, 1) @ caches["skip"]
        return total, {**caches, "row": row, "hidden": hidden}

    def __repr__(self) -> str:
        sizes = f"{self.in_channels}, {self.channels}, {self.num_layers}, {self.out_channels}"
        return f"PixelStacks({sizes})"


def gate(x: Array) -> Array:
    """tanh of the first half of the channels times sigmoid of the second."""
    a, b = jnp.split(x, 2, -1)
    return jnp.tanh(a) * sigmoid(b)
