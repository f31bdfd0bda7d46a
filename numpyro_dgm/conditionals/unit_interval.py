"""Data in the unit interval: continuous Bernoulli, Beta, Kumaraswamy and logit-normal
likelihoods.
"""

from math import log, pi
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array
from jax.nn import log_sigmoid
from numpyro.distributions import constraints
from numpyro.distributions.util import validate_sample

from dgm_core.arguments import check_fraction
from numpyro_dgm.conditionals.base import Parametric, size_of
from numpyro_dgm.conditionals.elementwise import (
    Elementwise,
    OpenInterval,
    check_inside,
    inside,
    logistic_normal_mean,
)


class ContinuousBernoulli(Parametric):
    """Independent grey levels:  p(x_i) proportional to s^x_i (1 - s)^(1 - x_i) on [0, 1],  s =
    sigmoid(l_i(c)).

    log p(x) = sum_i x_i l_i - softplus(l_i) + log(l_i / tanh(l_i / 2)).

    Args: dim, a size or a shape; context_dim (0 = free parameters); pixelwise, as in `Parametric`.
    Shapes: context (*batch, context_dim) -> batch_shape (*batch,), event_shape (dim,).
    Reference: Loaiza-Ganem & Cunningham (2019), arXiv:1907.06845. The normaliser is a Taylor series
    where abs(l) < 0.1, exact to 1e-13, and is taken in l rather than s elsewhere, so that it keeps
    its precision and gradient for any l.

    >>> round(ContinuousBernoulli(2)().log_prob(jnp.array([0.0, 0.3])).item(), 4)
    0.0
    """

    def __init__(
        self,
        dim: int | tuple[int, ...],
        *,
        context_dim: int = 0,
        pixelwise: bool = False,
        key: Array | None = None,
    ) -> None:
        super().__init__(dim, size_of(dim), context_dim=context_dim, pixelwise=pixelwise, key=key)

    def build(self, raw: Array) -> dist.Distribution:
        """The distribution with parameters `raw` (*batch, num_params)."""
        (logits,) = self.split(raw)
        return _ContinuousBernoulli(logits).to_event(len(self.event_shape))


class Beta(Parametric):
    """Independent entries in (0, 1):  x_i ~ Beta(a_i(c), b_i(c)), uniform where the raw parameters
    are zero.

    Args: dim, a size or a shape; context_dim (0 = free parameters); min_concentration, the smallest
        a and b; pixelwise, as in `Parametric`.
    Shapes: context (*batch, context_dim) -> batch_shape (*batch,), event_shape (dim,).
    Raises: with validation on, ValueError for values that are not strictly between 0 and 1.

    >>> abs(Beta(2)().log_prob(jnp.array([0.1, 0.3]))) < 1e-6
    Array(True, dtype=bool)
    """

    def __init__(
        self,
        dim: int | tuple[int, ...],
        *,
        context_dim: int = 0,
        min_concentration: float = 1e-2,
        pixelwise: bool = False,
        key: Array | None = None,
    ) -> None:
        num_params = 2 * size_of(dim)
        super().__init__(
            dim,
            num_params,
            context_dim=context_dim,
            pixelwise=pixelwise,
            floor=check_fraction("min_concentration", min_concentration),
            key=key,
        )

    def build(self, raw: Array) -> dist.Distribution:
        """The distribution with parameters `raw` (*batch, num_params)."""
        a, b = self.split(self.positive(raw))
        return _Beta(a, b).to_event(len(self.event_shape))


class Kumaraswamy(Parametric):
    """Independent entries in (0, 1):  P(x_i <= t) = 1 - (1 - t^a_i(c))^b_i(c),  like a Beta, with
    samples in closed form.

    log p(x) = sum_i log a_i + log b_i + (a_i - 1) log x_i + (b_i - 1) log(1 - x_i^a_i).

    Args: dim, a size or a shape; context_dim (0 = free parameters); min_concentration, the smallest
        a and b; pixelwise, as in `Parametric`.
    Shapes: context (*batch, context_dim) -> batch_shape (*batch,), event_shape (dim,).
    Raises: with validation on, ValueError for values that are not strictly between 0 and 1.
    Reference: Kumaraswamy (1980), J. Hydrology 46:79.

    >>> abs(Kumaraswamy(2)().log_prob(jnp.array([0.1, 0.3]))) < 1e-6
    Array(True, dtype=bool)
    """

    def __init__(
        self,
        dim: int | tuple[int, ...],
        *,
        context_dim: int = 0,
        min_concentration: float = 1e-2,
        pixelwise: bool = False,
        key: Array | None = None,
    ) -> None:
        num_params = 2 * size_of(dim)
        super().__init__(
            dim,
            num_params,
            context_dim=context_dim,
            pixelwise=pixelwise,
            floor=check_fraction("min_concentration", min_concentration),
            key=key,
        )

    def build(self, raw: Array) -> dist.Distribution:
        """The distribution with parameters `raw` (*batch, num_params)."""
        a, b = self.split(self.positive(raw))
        return _Kumaraswamy(a, b).to_event(len(self.event_shape))


class LogitNormal(Parametric):
    """Independent entries in (0, 1):  x_i = sigmoid(y_i),  y_i ~ Normal(loc_i(c), scale_i(c)).

    Args: dim, a size or a shape; context_dim (0 = free parameters); min_scale, the smallest scale;
        pixelwise, as in `Parametric`.
    Shapes: context (*batch, context_dim) -> batch_shape (*batch,), event_shape (dim,).
    Raises: with validation on, ValueError for values that are not strictly between 0 and 1.

    >>> round(LogitNormal(2)().log_prob(jnp.array([0.5, 0.5])).item(), 4)
    0.9347
    """

    def __init__(
        self,
        dim: int | tuple[int, ...],
        *,
        context_dim: int = 0,
        min_scale: float = 1e-2,
        pixelwise: bool = False,
        key: Array | None = None,
    ) -> None:
        num_params = 2 * size_of(dim)
        super().__init__(
            dim,
            num_params,
            context_dim=context_dim,
            pixelwise=pixelwise,
            floor=check_fraction("min_scale", min_scale),
            key=key,
        )

    def build(self, raw: Array) -> dist.Distribution:
        """The distribution with parameters `raw` (*batch, num_params)."""
        loc, raw_scale = self.split(raw)
        return _LogitNormal(loc, self.positive(raw_scale)).to_event(len(self.event_shape))


class _ContinuousBernoulli(Elementwise):
    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {"logits": constraints.real}
    support = constraints.unit_interval
    reparametrized_params: ClassVar[list[str]] = ["logits"]
    logits: Array

    def _away_from_zero(self) -> tuple[Array, Array]:
        """Where the series is used, and logits that are one there, so that no gradient of the
        unused branch is infinite.
        """
        near = abs(self.logits) < 0.1
        return near, jnp.where(near, 1.0, self.logits)

    @validate_sample
    def log_prob(self, value: Array) -> Array:
        near, logits = self._away_from_zero()
        exact = jnp.log(logits / jnp.tanh(logits / 2))
        square = self.logits**2
        series = log(2) + square * (
            1 / 12 - square * (7 / 1440 - square * (31 / 90720 - square * (127 / 4838400)))
        )
        return value * self.logits + log_sigmoid(-self.logits) + jnp.where(near, series, exact)

    def icdf(self, u: Array) -> Array:
        """log(1 + u (e^l - 1)) / l, for negative l; for positive l by the symmetry x -> 1 - x."""
        near, logits = self._away_from_zero()
        l, v = -abs(logits), jnp.where(logits < 0, u, 1 - u)
        exact = jnp.log1p(v * jnp.expm1(l)) / l
        exact = jnp.where(logits < 0, exact, 1 - exact)
        w, l = u * (1 - u), self.logits
        bend = 1 - 2 * u
        series = u + w * l * (
            1 / 2 + l * (bend / 6 + l * ((1 - 6 * w) / 24 + l * bend * (1 - 12 * w) / 120))
        )
        return jnp.where(near, series, exact)

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        return self.icdf(self._uniform(key, sample_shape))

    @property
    def mean(self) -> Array:
        near, logits = self._away_from_zero()
        square = self.logits**2
        series = 0.5 + self.logits * (
            1 / 12 - square * (1 / 720 - square * (1 / 30240 - square / 1209600))
        )
        return jnp.where(near, series, 0.5 + 0.5 / jnp.tanh(logits / 2) - 1 / logits)


class _Beta(dist.Beta):
    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        return inside(super().sample(key, sample_shape))

    def _validate_sample(self, value: Array) -> Array:
        return check_inside(self, value)


class _Kumaraswamy(OpenInterval):
    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {
        "concentration1": constraints.positive,
        "concentration0": constraints.positive,
    }
    support = constraints.unit_interval
    reparametrized_params: ClassVar[list[str]] = ["concentration1", "concentration0"]
    concentration1: Array
    concentration0: Array

    @validate_sample
    def log_prob(self, value: Array) -> Array:
        a, b, log_value = self.concentration1, self.concentration0, jnp.log(value)
        return jnp.log(a * b) + (a - 1) * log_value + (b - 1) * jnp.log(-jnp.expm1(a * log_value))

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        log_u = jnp.log(self._uniform(key, sample_shape))
        return inside(
            jnp.exp(jnp.log(-jnp.expm1(log_u / self.concentration0)) / self.concentration1)
        )

    @property
    def mean(self) -> Array:
        inverse, b = 1 / self.concentration1, self.concentration0
        return jnp.exp(
            jnp.log(b)
            + jax.lax.lgamma(1 + inverse)
            + jax.lax.lgamma(b)
            - jax.lax.lgamma(1 + inverse + b)
        )


class _LogitNormal(OpenInterval):
    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {
        "loc": constraints.real,
        "scale": constraints.positive,
    }
    support = constraints.unit_interval
    reparametrized_params: ClassVar[list[str]] = ["loc", "scale"]
    loc: Array
    scale: Array

    @validate_sample
    def log_prob(self, value: Array) -> Array:
        log_odd, log_even = jnp.log(value), jnp.log1p(-value)
        standard = (log_odd - log_even - self.loc) / self.scale
        return -0.5 * standard**2 - jnp.log(self.scale) - 0.5 * log(2 * pi) - log_odd - log_even

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        noise = jax.random.normal(key, (*sample_shape, *self.batch_shape), self.loc.dtype)
        return inside(jax.nn.sigmoid(self.loc + self.scale * noise))

    @property
    def mean(self) -> Array:
        return logistic_normal_mean(self.loc, self.scale)
