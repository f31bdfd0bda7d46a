"""Data strictly between 0 and 1: Beta and Kumaraswamy distributions."""

from math import factorial, log, pi
from typing import ClassVar

import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array
from jax.scipy.special import digamma, polygamma
from numpyro.distributions import constraints, kl_divergence
from numpyro.distributions.util import validate_sample
from scipy import special

from dgm_core.arguments import check_fraction
from dgm_core.contexts import ContextShape
from dgm_core.quadrature import double_exponential
from numpyro_dgm.conditionals.base import Parametric, size_of
from numpyro_dgm.conditionals.elementwise import OpenInterval, check_inside, inside, open_unit
from numpyro_dgm.nn.special import binet, digamma_gap, log1mexp, log1p_gap, log_beta

_SMALL = 0.1  # where a Taylor series in a concentration is taken
_AT_ONE = tuple(float(special.polygamma(order, 1.0)) for order in range(17))  # psi^(order)(1)
_FAR = 30.0  # e^-30 is nothing beside 1


class _Concentrations(Parametric):
    """Two positive parameters for each entry."""

    def __init__(
        self,
        dim: int | tuple[int, ...],
        *,
        context_shape: ContextShape = 0,
        min_concentration: float = 1e-2,
        key: Array | None = None,
    ) -> None:
        num_params = 2 * size_of(dim)
        super().__init__(
            dim,
            num_params,
            context_shape=context_shape,
            floor=check_fraction("min_concentration", min_concentration),
            key=key,
        )


class Beta(_Concentrations):
    """Independent entries in (0, 1):  x_i ~ Beta(a_i(c), b_i(c)), uniform where the raw parameters
    are zero.

    Args:
        dim: a size or a shape.
        context_shape: 0 = free parameters.
        min_concentration: the smallest a and b.

    Shapes:
        context (*batch, *context_shape) -> batch_shape (*batch,), event_shape (dim,).

    Raises:
        with validation on, ValueError for values that are not strictly between 0 and 1.

    Example:
        >>> abs(Beta(2)().log_prob(jnp.array([0.1, 0.3]))) < 1e-6
        Array(True, dtype=bool)
    """

    def build(self, raw: Array) -> dist.Distribution:
        """The distribution with parameters `raw` (*batch, num_params)."""
        a, b = self.split(self.positive(raw))
        return _Beta(a, b).to_event(len(self.event_shape))


class Kumaraswamy(_Concentrations):
    """Independent entries in (0, 1):  P(x_i <= t) = 1 - (1 - t^a_i(c))^b_i(c),  like a Beta, with
    samples in closed form.

    log p(x) = sum_i log a_i + log b_i + (a_i - 1) log x_i + (b_i - 1) log(1 - x_i^a_i).

    Args:
        dim: a size or a shape.
        context_shape: 0 = free parameters.
        min_concentration: the smallest a and b.

    Shapes:
        context (*batch, *context_shape) -> batch_shape (*batch,), event_shape (dim,).

    Raises:
        with validation on, ValueError for values that are not strictly between 0 and 1.

    References:
        Kumaraswamy (1980), J. Hydrology 46:79.

    Example:
        >>> abs(Kumaraswamy(2)().log_prob(jnp.array([0.1, 0.3]))) < 1e-6
        Array(True, dtype=bool)
    """

    def build(self, raw: Array) -> dist.Distribution:
        """The distribution with parameters `raw` (*batch, num_params)."""
        a, b = self.split(self.positive(raw))
        return _Kumaraswamy(a, b).to_event(len(self.event_shape))


class _Beta(dist.Beta):
    support = open_unit

    @validate_sample
    def log_prob(self, value: Array) -> Array:
        """-a h(x / m) - b h((1 - x) / (1 - m)), and what Stirling's formula leaves, with the mean
        m = a / (a + b) and h(t) = t - 1 - log t >= 0: no large numbers are differenced.
        """
        a, b, rest = self.concentration1, self.concentration0, 1 - value
        gap = b * value - a * rest  # (a + b) (x - m)
        log_odd, log_even = jnp.log(value), jnp.log1p(-value)
        above = a * _gap(gap / a, log_odd + jnp.log1p(b / a))
        below = b * _gap(-gap / b, log_even + jnp.log1p(a / b))
        logs = jnp.log(a) - jnp.log1p(a / b)  # of a b / (a + b)
        stirling = binet(a) + binet(b) - binet(a + b)
        return 0.5 * (logs - log(2 * pi)) - above - below - log_odd - log_even - stirling

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        return inside(super().sample(key, sample_shape).astype(self.concentration1.dtype))

    def entropy(self) -> Array:
        a, b = self.concentration1, self.concentration0
        stirling = binet(a) + binet(b) - binet(a + b)
        gaps = (
            (a - 1) * digamma_gap(a) + (b - 1) * digamma_gap(b) - (a + b - 2) * digamma_gap(a + b)
        )
        logs = -jnp.log1p(b / a) - jnp.log1p(a / b)  # of m (1 - m)
        return 0.5 * (logs - jnp.log(a + b) + log(2 * pi)) + stirling + gaps

    @property
    def variance(self) -> Array:
        total = self.concentration1 + self.concentration0
        return self.concentration1 / total * (self.concentration0 / total) / (total + 1)

    def _validate_sample(self, value: Array) -> Array:
        return check_inside(self, value)


def _gap(excess: Array, log_ratio: Array) -> Array:
    """t - 1 - log t, given t - 1 and log t."""
    near = abs(excess) < 0.3
    return jnp.where(near, log1p_gap(jnp.where(near, excess, 0.0)), excess - log_ratio)


class _Kumaraswamy(OpenInterval):
    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {
        "concentration1": constraints.positive,
        "concentration0": constraints.positive,
    }
    support = open_unit
    reparametrized_params: ClassVar[list[str]] = ["concentration1", "concentration0"]
    concentration1: Array
    concentration0: Array

    @validate_sample
    def log_prob(self, value: Array) -> Array:
        a, b, log_value = self.concentration1, self.concentration0, jnp.log(value)
        return jnp.log(a) + jnp.log(b) + (a - 1) * log_value + (b - 1) * log1mexp(-a * log_value)

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        log_u = jnp.log(self._uniform(key, sample_shape))
        return inside(jnp.exp(log1mexp(-log_u / self.concentration0) / self.concentration1))

    def _log_moment(self, order: int) -> Array:
        """log E x^order = log b B(c, b) = log (c + b) B(c, b + 1),  c = 1 + order / a."""
        c, b = 1 + order / self.concentration1, self.concentration0
        return jnp.log(c + b) + log_beta(c, b + 1)

    @property
    def mean(self) -> Array:
        return jnp.exp(self._log_moment(1))

    @property
    def variance(self) -> Array:
        """E x^2 (1 - e^-d),  d = log E x^2 - 2 log E x;  by Taylor series for large a, in 1 / a, of
        d = g(2 / a) - 2 g(1 / a),  g(e) = log Gamma(1 + e) - log Gamma(1 + b + e), and for small b,
        in b, of d = h(2 / a) - 2 h(1 / a) + h(0),  h(e) = -log Gamma(1 + e + b).
        """
        a, b = self.concentration1, self.concentration0
        far, small, second = a > 10, b < _SMALL, self._log_moment(2)
        e, c, order = 1 / jnp.where(far, a, 10.0), 1 / jnp.where(far, 10.0, a), range(2, 9)
        far_terms = [(2**k - 2) / factorial(k) * e**k * _polygamma_gap(k - 1, b) for k in order]
        small_terms = [
            jnp.where(small, b, _SMALL) ** (k + 1)
            / factorial(k + 1)
            * (2 * polygamma(k, 1 + c) - polygamma(k, 1 + 2 * c) - _AT_ONE[k])
            for k in range(5)
        ]
        near = jnp.where(small, sum(small_terms), second - 2 * self._log_moment(1))
        d = jnp.where(far, sum(far_terms), near)
        return jnp.exp(second) * -jnp.expm1(-d)


def _polygamma_gap(order: int, b: Array) -> Array:
    """psi^(order)(1) - psi^(order)(1 + b), for small b by its Taylor series."""
    small = b < _SMALL
    t = jnp.where(small, b, _SMALL)
    series = sum(t**i / factorial(i) * _AT_ONE[order + i] for i in range(1, 9))
    return jnp.where(small, -series, _AT_ONE[order] - polygamma(order, 1 + b))


@kl_divergence.register(_Kumaraswamy, dist.Beta)
def _kl_to_beta(p: _Kumaraswamy, q: dist.Beta) -> Array:
    """log(a b B(p, q)) + (a - p) E log x - (b - 1) / b - (q - 1) E log(1 - x), with
    E log x = (psi(1) - psi(1 + b)) / a, entry by entry.

    E log(1 - x) has no closed form; quadrature gives it to rounding, where the series of Nalisnick,
    Hertel and Smyth (2016), cut after 11 terms, is off in the second digit.
    """
    a, b = p.concentration1, p.concentration0
    log_x = (_AT_ONE[0] - digamma(1 + b)) / a
    odd, even = q.concentration1, q.concentration0
    known = jnp.log(a * b) + log_beta(odd, even) + (a - odd) * log_x - (b - 1) / b
    return known - (even - 1) * _mean_log_rest(a, b)


def _mean_log_rest(a: Array, b: Array) -> Array:
    """E log(1 - x) of Kumaraswamy(a, b), with x = (1 - u^(1/b))^(1/a) and u uniform."""
    nodes = [jnp.asarray(x, a.dtype) for x in double_exponential()]
    gap = -nodes[0] / b[..., None]  # -log u^(1/b) > 0
    far = gap > _FAR
    log_gap = jnp.where(far, -gap, jnp.log(-log1mexp(jnp.where(far, 1.0, gap))))
    log_gap = log_gap - jnp.log(a[..., None])  # log(-log x)
    near = log_gap < -_FAR
    log_rest = jnp.where(near, log_gap, log1mexp(jnp.exp(jnp.where(near, 0.0, log_gap))))
    return (nodes[1] * log_rest).sum(-1)
