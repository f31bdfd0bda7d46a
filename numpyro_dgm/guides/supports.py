"""Supports mapped to the real line, as the run at hand has them: bounds may be other sites."""

from collections.abc import Sequence
from math import prod
from typing import Any

import jax.numpy as jnp
from jax import Array
from numpyro.distributions import (
    CategoricalLogits,
    CategoricalProbs,
    biject_to,
    constraints,
)
from numpyro.distributions.transforms import Transform

from numpyro_dgm.guides.determined import Determined
from numpyro_dgm.joints.values import base_of, with_vectors

__all__: list[str] = []  # for the package, not for users


def real_line(fn: Any) -> Transform:
    """The bijection from the real line to the support of a distribution.

    Raises:
        NotImplementedError: where there is none, as for a discrete support or a sphere.
    """
    return biject_to(fn.support)


def is_real(fn: Any) -> bool:
    """Whether the support of a distribution is the real line already."""
    return _base_of(fn.support) is constraints.real


def has_bounds(fn: Any) -> bool:
    """Whether the support of a distribution has bounds of its own, which may be other sites."""
    support = _base_of(fn.support)
    bounds = (getattr(support, name, None) for name in ("lower_bound", "upper_bound"))
    return any(not isinstance(x, float | int) or x not in (0, 1) for x in bounds if x is not None)


def num_seen(fn: Any) -> int:
    """How many numbers `seen` makes of an event."""
    base = base_of(fn)
    if isinstance(base, CategoricalProbs | CategoricalLogits):
        return base.probs.shape[-1] * prod(fn.event_shape)
    if getattr(fn.support, "is_discrete", False):
        return prod(fn.event_shape)
    try:
        shape = real_line(fn).inverse_shape(fn.batch_shape + fn.event_shape)
    except NotImplementedError:
        return 0
    return prod(shape[len(fn.batch_shape) :])


def seen(fn: Any, value: Array) -> Array:
    """A value as numbers without bounds, (*batch, entries): on the real line, classes one-hot."""
    batch = value.shape[: value.ndim - fn.event_dim]
    if getattr(fn.support, "is_discrete", False):
        vectors = with_vectors((value, fn.event_dim), fn)[0]
        return vectors.astype(jnp.result_type(float)).reshape((*batch, -1))
    return real_line(fn).inv(value).reshape((*batch, -1))


def beside(parts: Sequence[Array]) -> Array:
    """Vectors (*batch, size) side by side, their batch dimensions broadcast."""
    batch = jnp.broadcast_shapes(*(part.shape[:-1] for part in parts))
    return jnp.concatenate([jnp.broadcast_to(x, (*batch, x.shape[-1])) for x in parts], -1)


def determined(fn: Any, u: Array, log_density: Array | float = 0.0) -> Determined:
    """The value of a site at u on the real line, with log_density (*batch,) - log |dz/du|."""
    transform = real_line(fn)
    value = transform(u)
    batch = value.shape[: value.ndim - fn.event_dim]
    log_jacobian = transform.log_abs_det_jacobian(u, value)
    extra = log_jacobian.ndim - len(batch)
    log_jacobian = log_jacobian.sum(tuple(range(-extra, 0))) if extra > 0 else log_jacobian
    log_density = jnp.broadcast_to(log_density - log_jacobian, batch)
    return Determined(value, log_density, fn.event_dim)


def _base_of(support: Any) -> Any:
    while hasattr(support, "base_constraint"):
        support = support.base_constraint
    return support
