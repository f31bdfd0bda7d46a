"""Data strictly between 0 and 1: the logit-normal distribution."""

from math import log, pi
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array
from jax.nn import sigmoid
from jax.scipy.special import ndtr
from numpyro.distributions import constraints
from numpyro.distributions.util import validate_sample

from dgm_core.arguments import check_fraction
from dgm_core.contexts import ContextShape
from numpyro_dgm.conditionals.base import Parametric, size_of
from numpyro_dgm.conditionals.elementwise import OpenInterval, inside, open_unit, smallest


class LogitNormal(Parametric):
    """Independent entries in (0, 1):  x_i = sigmoid(y_i),  y_i ~ Normal(loc_i(c), scale_i(c)).

    Args:
        dim: a size or a shape.
        context_shape: 0 = free parameters.
        min_scale: the smallest scale.

    Shapes:
        context (*batch, *context_shape) -> batch_shape (*batch,), event_shape (dim,).

    Raises:
        with validation on, ValueError for values that are not strictly between 0 and 1.

    Example:
        >>> round(LogitNormal(2)().log_prob(jnp.array([0.5, 0.5])).item(), 4)
        0.9347
    """

    def __init__(
        self,
        dim: int | tuple[int, ...],
        *,
        context_shape: ContextShape = 0,
        min_scale: float = 1e-2,
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
        return _LogitNormal(*self.loc_and_scale(raw)).to_event(len(self.event_shape))


class _LogitNormal(OpenInterval):
    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {
        "loc": constraints.real,
        "scale": constraints.positive,
    }
    support = open_unit
    reparametrized_params: ClassVar[list[str]] = ["loc", "scale"]
    loc: Array
    scale: Array

    @validate_sample
    def log_prob(self, value: Array) -> Array:
        # The slope of 1 / x overflows at the smallest draws, which do not move with loc and scale.
        fixed = jax.lax.stop_gradient(value)
        value = jnp.where(value > smallest(value.dtype), value, fixed)
        log_odd, log_even = jnp.log(value), jnp.log1p(-value)
        standard = (log_odd - log_even - self.loc) / self.scale
        log_normal = -0.5 * standard**2 - jnp.log(self.scale) - 0.5 * log(2 * pi)
        return log_normal - log_odd - log_even

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        noise = jax.random.normal(key, (*sample_shape, *self.batch_shape), self.loc.dtype)
        return inside(sigmoid(self.loc + self.scale * noise))

    @property
    def mean(self) -> Array:
        return _moments(self.loc, self.scale)[0]

    @property
    def variance(self) -> Array:
        return _moments(self.loc, self.scale)[1]


def _moments(loc: Array, scale: Array) -> tuple[Array, Array]:
    """Mean and variance of sigmoid(y), y ~ Normal(loc, scale), by the trapezoidal rule.

    The rule runs over y for scale < 2, else over t in E f(y) = int f'(t) P(y > t) dt; the poles of
    sigmoid make an error of 1e-10 in either. By symmetry loc is taken negative.
    """
    center, narrow = -abs(loc)[..., None], (scale < 2)[..., None]
    low, high = jnp.minimum(scale, 2.0)[..., None], jnp.maximum(scale, 2.0)[..., None]
    n = jnp.arange(-20, 21, dtype=loc.dtype) * 0.4
    x = sigmoid(center + low * n)
    weights = jax.nn.softmax(-0.5 * n**2)
    mean = (weights * x).sum(-1, keepdims=True)
    variance = (weights * (x - mean) ** 2).sum(-1, keepdims=True)
    t = jnp.arange(-45, 46, dtype=loc.dtype) * 0.8
    slopes = 0.8 * sigmoid(t) * sigmoid(-t) * ndtr((center - t) / high)
    wide = slopes.sum(-1, keepdims=True)
    spread = (2 * sigmoid(t) * slopes).sum(-1, keepdims=True) - wide**2
    mean, variance = jnp.where(narrow, mean, wide), jnp.where(narrow, variance, spread)
    mean = mean[..., 0]
    return jnp.where(loc > 0, 1 - mean, mean), variance[..., 0]
