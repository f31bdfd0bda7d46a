"""Supports mapped to the real line, as the run at hand has them: bounds may be other sites."""

from typing import Any

import jax.numpy as jnp
from jax import Array
from numpyro.distributions import biject_to
from numpyro.distributions.transforms import Transform

from numpyro_dgm.guides.determined import Determined

__all__: list[str] = []  # for the package, not for users


def real_line(fn: Any) -> Transform:
    """The bijection from the real line to the support of a distribution.

    Raises:
        NotImplementedError: where there is none, as for a discrete support or a sphere.
    """
    return biject_to(fn.support)


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
