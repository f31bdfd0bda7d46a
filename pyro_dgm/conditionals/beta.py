"""Data strictly between 0 and 1: Beta and Kumaraswamy distributions."""

from math import factorial, log, pi
from typing import ClassVar

import torch
from pyro import distributions as dist
from pyro.distributions import constraints
from scipy import special
from torch import Tensor
from torch.distributions import register_kl

from dgm_core.arguments import check_fraction
from dgm_core.contexts import ContextShape
from dgm_core.quadrature import double_exponential
from pyro_dgm.conditionals.base import Parametric, size_of
from pyro_dgm.conditionals.elementwise import OpenInterval, check_inside, inside, open_unit
from pyro_dgm.nn.special import binet, digamma_gap, log1mexp, log1p_gap, log_beta

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
    ) -> None:
        num_params = 2 * size_of(dim)
        super().__init__(
            dim,
            num_params,
            context_shape=context_shape,
            floor=check_fraction("min_concentration", min_concentration),
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
        >>> Beta(2)().log_prob(torch.tensor([0.1, 0.3])).abs() < 1e-6
        tensor(True)
    """

    def build(self, raw: Tensor) -> dist.TorchDistribution:
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
        >>> Kumaraswamy(2)().log_prob(torch.tensor([0.1, 0.3])).abs() < 1e-6
        tensor(True)
    """

    def build(self, raw: Tensor) -> dist.TorchDistribution:
        """The distribution with parameters `raw` (*batch, num_params)."""
        a, b = self.split(self.positive(raw))
        return _Kumaraswamy(a, b).to_event(len(self.event_shape))


class _Beta(dist.Beta):
    support = open_unit

    def log_prob(self, value: Tensor) -> Tensor:
        """-a h(x / m) - b h((1 - x) / (1 - m)), and what Stirling's formula leaves, with the mean
        m = a / (a + b) and h(t) = t - 1 - log t >= 0: no large numbers are differenced.
        """
        if self._validate_args:
            self._validate_sample(value)
        a, b, rest = self.concentration1, self.concentration0, 1 - value
        gap = b * value - a * rest  # (a + b) (x - m)
        log_odd, log_even = torch.log(value), torch.log1p(-value)
        above = a * _gap(gap / a, log_odd + torch.log1p(b / a))
        below = b * _gap(-gap / b, log_even + torch.log1p(a / b))
        logs = a.log() - torch.log1p(a / b)  # of a b / (a + b)
        stirling = binet(a) + binet(b) - binet(a + b)
        return 0.5 * (logs - log(2 * pi)) - above - below - log_odd - log_even - stirling

    def rsample(self, sample_shape: tuple[int, ...] = ()) -> Tensor:
        return inside(super().rsample(sample_shape))

    def entropy(self) -> Tensor:
        a, b = self.concentration1, self.concentration0
        stirling = binet(a) + binet(b) - binet(a + b)
        gaps = (
            (a - 1) * digamma_gap(a) + (b - 1) * digamma_gap(b) - (a + b - 2) * digamma_gap(a + b)
        )
        logs = -torch.log1p(b / a) - torch.log1p(a / b)  # of m (1 - m)
        return 0.5 * (logs - torch.log(a + b) + log(2 * pi)) + stirling + gaps

    @property
    def variance(self) -> Tensor:
        total = self.concentration1 + self.concentration0
        return self.concentration1 / total * (self.concentration0 / total) / (total + 1)

    def _validate_sample(self, value: Tensor) -> None:
        check_inside(self, value)
        super()._validate_sample(value)


def _gap(excess: Tensor, log_ratio: Tensor) -> Tensor:
    """t - 1 - log t, given t - 1 and log t."""
    near = excess.abs() < 0.3
    return torch.where(near, log1p_gap(torch.where(near, excess, 0.0)), excess - log_ratio)


class _Kumaraswamy(OpenInterval):
    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {
        "concentration1": constraints.positive,
        "concentration0": constraints.positive,
    }
    support = open_unit
    has_rsample = True
    concentration1: Tensor
    concentration0: Tensor

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        a, b, log_value = self.concentration1, self.concentration0, torch.log(value)
        return a.log() + b.log() + (a - 1) * log_value + (b - 1) * log1mexp(-a * log_value)

    def rsample(self, sample_shape: tuple[int, ...] = ()) -> Tensor:
        log_u = torch.log(self._uniform(sample_shape))
        return inside(torch.exp(log1mexp(-log_u / self.concentration0) / self.concentration1))

    def _log_moment(self, order: int) -> Tensor:
        """log E x^order = log b B(c, b) = log (c + b) B(c, b + 1),  c = 1 + order / a."""
        c, b = 1 + order / self.concentration1, self.concentration0
        return torch.log(c + b) + log_beta(c, b + 1)

    @property
    def mean(self) -> Tensor:
        return self._log_moment(1).exp()

    @property
    def variance(self) -> Tensor:
        """E x^2 (1 - e^-d),  d = log E x^2 - 2 log E x;  by Taylor series for large a, in 1 / a, of
        d = g(2 / a) - 2 g(1 / a),  g(e) = log Gamma(1 + e) - log Gamma(1 + b + e), and for small b,
        in b, of d = h(2 / a) - 2 h(1 / a) + h(0),  h(e) = -log Gamma(1 + e + b).
        """
        a, b = self.concentration1, self.concentration0
        far, small, second = a > 10, b < _SMALL, self._log_moment(2)
        e, c, order = 1 / torch.where(far, a, 10.0), 1 / torch.where(far, 10.0, a), range(2, 9)
        far_terms = [(2**k - 2) / factorial(k) * e**k * _polygamma_gap(k - 1, b) for k in order]
        small_terms = [
            torch.where(small, b, _SMALL) ** (k + 1)
            / factorial(k + 1)
            * (2 * torch.polygamma(k, 1 + c) - torch.polygamma(k, 1 + 2 * c) - _AT_ONE[k])
            for k in range(5)
        ]
        near = torch.where(small, sum(small_terms), second - 2 * self._log_moment(1))
        d = torch.where(far, sum(far_terms), near)
        return second.exp() * -torch.expm1(-d)


def _polygamma_gap(order: int, b: Tensor) -> Tensor:
    """psi^(order)(1) - psi^(order)(1 + b), for small b by its Taylor series."""
    small = b < _SMALL
    t = torch.where(small, b, _SMALL)
    series = sum(t**i / factorial(i) * _AT_ONE[order + i] for i in range(1, 9))
    return torch.where(small, -series, _AT_ONE[order] - torch.polygamma(order, 1 + b))


@register_kl(_Kumaraswamy, dist.Beta)
def _kl_to_beta(p: _Kumaraswamy, q: dist.Beta) -> Tensor:
    """log(a b B(p, q)) + (a - p) E log x - (b - 1) / b - (q - 1) E log(1 - x), with
    E log x = (psi(1) - psi(1 + b)) / a, entry by entry.

    E log(1 - x) has no closed form; quadrature gives it to rounding, where the series of Nalisnick,
    Hertel and Smyth (2016), cut after 11 terms, is off in the second digit.
    """
    a, b = p.concentration1, p.concentration0
    log_x = (_AT_ONE[0] - torch.digamma(1 + b)) / a
    odd, even = q.concentration1, q.concentration0
    known = (a * b).log() + log_beta(odd, even) + (a - odd) * log_x - (b - 1) / b
    return known - (even - 1) * _mean_log_rest(a, b)


def _mean_log_rest(a: Tensor, b: Tensor) -> Tensor:
    """E log(1 - x) of Kumaraswamy(a, b), with x = (1 - u^(1/b))^(1/a) and u uniform."""
    nodes = [torch.as_tensor(x, dtype=a.dtype, device=a.device) for x in double_exponential()]
    gap = -nodes[0] / b[..., None]  # -log u^(1/b) > 0
    far = gap > _FAR
    log_gap = torch.where(far, -gap, (-log1mexp(torch.where(far, 1.0, gap))).log())
    log_gap = log_gap - a[..., None].log()  # log(-log x)
    near = log_gap < -_FAR
    log_rest = torch.where(near, log_gap, log1mexp(torch.where(near, 0.0, log_gap).exp()))
    return (nodes[1] * log_rest).sum(-1)
