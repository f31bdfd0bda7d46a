"""Normal distributions: standard, with one scale, diagonal, low rank, full rank.

Raw parameters that are zero give the standard normal distribution; scales have a small floor, so
that no density becomes infinite.
"""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array

from dgm_core.arguments import check_fraction, check_number
from dgm_core.contexts import ContextShape
from numpyro_dgm.conditionals.base import Conditional, Parametric, size_of
from numpyro_dgm.nn.contexts import batch_shape_of, one_for

__all__ = ["DiagonalNormal", "Normal", "StandardNormal"]


class StandardNormal(Conditional):
    """The standard normal distribution:  z ~ Normal(0, I).

    Args:
        dim: a size or a shape.
        context_shape: a context gives the batch shape and nothing else.

    Shapes:
        context (*batch, *context_shape) -> batch_shape (*batch,), event_shape (dim,).

    Example:
        >>> round(StandardNormal(2)().log_prob(jnp.zeros(2)).item(), 4)
        -1.8379
    """

    def __init__(
        self,
        dim: int | tuple[int, ...],
        *,
        context_shape: ContextShape = 0,
        key: Array | None = None,
    ) -> None:
        super().__init__(dim, context_shape=context_shape)

    def condition(self, context: Any) -> dist.Distribution:
        """The distribution given a checked context."""
        batch_shape = batch_shape_of(context, self.context_shape)
        one = one_for(context)
        standard = TypedNormal(0 * one, one).expand((*batch_shape, *self.event_shape))
        return standard.to_event(len(self.event_shape))


class TypedNormal(dist.Normal):
    """NumPyro's, with draws of the type of its parameters."""

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draws (*sample_shape, *batch)."""
        return super().sample(key, sample_shape).astype(jnp.result_type(self.loc, self.scale))


class Normal(Parametric):
    """Independent entries with one common scale:  x_i ~ Normal(loc_i(c), scale).

    With a linear decoder this is the likelihood of probabilistic PCA. For one scale per entry, from
    the context, use `DiagonalNormal`.

    Args:
        dim: a size or a shape.
        context_shape: 0 = free parameters.
        scale: None: one learned number, `raw_scale`.
        min_scale: the smallest learned scale.

    Shapes:
        context (*batch, *context_shape) -> batch_shape (*batch,), event_shape (dim,).

    Raises:
        ValueError: if scale is not positive.

    Example:
        >>> round(Normal(2, scale=1.0)().log_prob(jnp.zeros(2)).item(), 4)
        -1.8379
    """

    fixed_scale: float | None = eqx.field(static=True)
    raw_scale: Array | None

    def __init__(
        self,
        dim: int | tuple[int, ...],
        *,
        context_shape: ContextShape = 0,
        scale: float | None = None,
        min_scale: float = 1e-4,
        key: Array | None = None,
    ) -> None:
        if scale is not None:
            scale = check_number("scale", scale, above=0)
        super().__init__(
            dim,
            size_of(dim),
            context_shape=context_shape,
            floor=check_fraction("min_scale", min_scale),
            key=key,
        )
        self.fixed_scale = scale
        self.raw_scale = jnp.zeros(()) if scale is None else None

    def build(self, raw: Array) -> dist.Distribution:
        """The distribution with parameters `raw` (*batch, num_params)."""
        (loc,) = self.split(raw)
        if self.raw_scale is None:
            scale = jnp.asarray(self.fixed_scale, loc.dtype)
        else:
            scale = self.positive(self.raw_scale)
        return TypedNormal(loc, scale).to_event(len(self.event_shape))


class DiagonalNormal(Parametric):
    """A normal distribution with independent entries:  z_i ~ Normal(loc_i(c), scale_i(c)).

    Args:
        dim: a size or a shape.
        context_shape: 0 = free parameters.
        min_scale: the smallest scale.

    Shapes:
        context (*batch, *context_shape) -> batch_shape (*batch,), event_shape (dim,).

    Example:
        >>> round(DiagonalNormal(2)().log_prob(jnp.zeros(2)).item(), 4)
        -1.8379
    """

    def __init__(
        self,
        dim: int | tuple[int, ...],
        *,
        context_shape: ContextShape = 0,
        min_scale: float = 1e-4,
        key: Array | None = None,
    ) -> None:
        num_params = 2 * size_of(dim)
        super().__init__(
            dim,
            num_params,
            context_shape=context_shape,
            floor=check_fraction("min_scale", min_scale),
            key=key,
        )

    def build(self, raw: Array) -> dist.Distribution:
        """The distribution with parameters `raw` (*batch, num_params)."""
        return TypedNormal(*self.loc_and_scale(raw)).to_event(len(self.event_shape))
