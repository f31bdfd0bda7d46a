"""Conditional distributions: modules that are called with a context and return a distribution.

A prior is called with nothing, a guide with the encoder's features, a likelihood with the
decoder's; all three are one type, so they can be exchanged.
"""

from abc import abstractmethod
from collections.abc import Callable
from math import expm1, log, prod
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array
from numpyro.distributions import Distribution

from dgm_core.arguments import check_fraction, check_shape
from dgm_core.contexts import (
    ContextShape,
    TakesContext,
    check_context,
    check_context_shape,
    context_size,
    map_channels,
    shown_shape,
)
from numpyro_dgm.nn.contexts import as_map, flat, visible
from numpyro_dgm.nn.layers import Linear

__all__ = ["Conditional", "Parametric", "positive", "size_of"]


def size_of(dim: int | tuple[int, ...]) -> int:
    """The number of entries of a value of size or shape `dim`.

    Example:
        >>> size_of((3, 8, 8))
        192
    """
    return prod(check_shape("dim", dim))


def positive(raw: Array, floor: float = 0.0) -> Array:
    """Map the real line to (floor, inf): `floor + softplus(raw + c)`, with `c` such that zero
    becomes one.

    Linear for large `raw`, so its gradient neither explodes nor is clipped. Raises: ValueError if
    `floor` is not in [0, 1).

    Example:
        >>> positive(jnp.array(0.0), 0.1)
        Array(1., dtype=float32, weak_type=True)
    """
    if type(floor) is not float or not 0.0 <= floor < 1.0:
        floor = check_fraction("floor", floor)
    return floor - jax.nn.log_sigmoid(-raw - log(expm1(1.0 - floor)))


def required_key(key: Array | None, name: str) -> Array:
    if key is None:
        raise ValueError(f"{name} draws its weights at random: pass key=jax.random.key(...).")
    return key


class Conditional(TakesContext, eqx.Module):
    """A conditional distribution p(value | context): `conditional(context=None) -> Distribution`.

    Args:
        dim: the size of a value or its shape.
        context_shape: of a context: an int (a vector of that size; 0 = unconditional), a tuple (an
            array of that shape), `Labels(num_classes)`, or a tuple of these, for several contexts
            side by side.

    A subclass defines `condition(context)`, which is called with a context that has been checked,
    whose labels are one-hot, and which `flat(context)` makes a vector.

    Attributes:
        event_shape: (tuple), the shape of one value.
        context_shape: (tuple), () without a context.

    Shapes:
        context (*batch, *context_shape), labels (*batch,), several a tuple of arrays -> batch_shape
        (*batch,), event_shape; without context batch_shape ().

    Raises:
        ValueError: if a context is missing, not expected or of the wrong shape, and for labels out
            of range.
    """

    event_shape: tuple[int, ...] = eqx.field(static=True)
    context_shape: tuple[Any, ...] = eqx.field(static=True)

    def __init__(self, dim: int | tuple[int, ...], *, context_shape: ContextShape = 0) -> None:
        self.event_shape = check_shape("dim", dim)
        self.context_shape = check_context_shape("context_shape", context_shape)

    def __call__(self, context: Any = None) -> Distribution:
        """The distribution given `context` (*batch, *context_shape), or the unconditional one."""
        check_context(self, context, self.context_shape)
        return self.condition(visible(context, self.context_shape))

    def flat(self, context: Any) -> Array:
        """A checked context as a vector (*batch, entries)."""
        return flat(context, self.context_shape)

    @abstractmethod
    def condition(self, context: Any) -> Distribution:
        """The distribution given a checked context."""

    def _sizes(self) -> tuple[str, ...]:
        """What `repr` shows behind the dimension."""
        return ()

    def __repr__(self) -> str:
        dim = shown_shape(self.event_shape) if self.event_shape else "()"
        context = (
            (f"context_shape={shown_shape(self.context_shape)}",) if self.context_shape else ()
        )
        return f"{type(self).__name__}({', '.join((str(dim), *self._sizes(), *context))})"


class Parametric(Conditional):
    """A conditional of a named family, whose `num_params` real parameters are linear in the
    context.

    raw = W context + b (the layer `head`), or a free vector (`free`) without a context; the
    subclass turns raw into a distribution by `build(raw)`. An image (channels, height, width) given
    a map (features, height, width) has one W for all pixels, a 1x1 convolution; vectors and labels
    beside the map are the same in all of them. Any other context is flattened.

    Args:
        dim: a size or a shape.
        num_params: of one value.
        context_shape: 0 = free parameters.
        initial: a function that gives the free parameters to start from (default zeros).
        floor: the smallest value of `positive(raw)`.

    Raises:
        ValueError: if a map does not have the pixels of the image, or if floor is not in [0, 1).
    """

    num_params: int = eqx.field(static=True)
    pixels: tuple[int, ...] = eqx.field(static=True)
    floor: float = eqx.field(static=True)
    head: Any  # a Linear; None without a context
    free: Any  # an array; None with a context

    def __init__(
        self,
        dim: int | tuple[int, ...],
        num_params: int,
        *,
        context_shape: ContextShape = 0,
        floor: float = 1e-4,
        initial: Callable[[], Array] | None = None,
        key: Array | None = None,
    ) -> None:
        super().__init__(dim, context_shape=context_shape)
        self.floor = check_fraction("floor", floor)
        self.num_params = num_params
        features = context_size(self.context_shape)
        pixels = self.event_shape[1:] if len(self.event_shape) == 3 else ()
        channels = map_channels(self.context_shape, pixels) if pixels else 0
        self.pixels = pixels if channels else ()
        self.head = self.free = None
        if features:
            size = num_params // prod(self.pixels)  # of a pixel, or of all
            key = required_key(key, type(self).__name__)
            self.head = Linear(channels or features, size, key=key)
        else:
            self.free = jnp.zeros(num_params) if initial is None else initial()

    def condition(self, context: Any) -> Distribution:
        """The distribution given a checked context."""
        if context is None:
            return self.build(self.free)
        if not self.pixels:
            return self.build(self.head(self.flat(context)))
        maps = as_map(context, self.context_shape, self.pixels)
        maps = maps.reshape(*maps.shape[:-2], prod(self.pixels))
        raw = self.head(maps.mT).mT  # W for all (*batch, pixels, features)
        return self.build(raw.reshape(*raw.shape[:-2], self.num_params))

    def split(self, raw: Array) -> tuple[Array, ...]:
        """The parameters (*batch, num_params) as tensors (*batch, *event_shape), one after the
        other.
        """
        parts = raw.reshape(*raw.shape[:-1], -1, *self.event_shape)
        return tuple(jnp.moveaxis(parts, -1 - len(self.event_shape), 0))

    def positive(self, raw: Array) -> Array:
        """A number above `floor` from any real number; one from zero."""
        return positive(raw, self.floor)

    def loc_and_scale(self, raw: Array) -> tuple[Array, Array]:
        """The parameters (*batch, num_params) as a location and a scale above `floor`."""
        loc, raw_scale = self.split(raw)
        return loc, self.positive(raw_scale)

    @abstractmethod
    def build(self, raw: Array) -> Distribution:
        """The distribution with parameters `raw` (*batch, num_params)."""
