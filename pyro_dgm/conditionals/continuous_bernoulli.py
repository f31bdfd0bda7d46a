"""Gray levels in [0, 1]: the continuous Bernoulli distribution."""

from math import log
from typing import ClassVar

import torch
from pyro import distributions as dist
from pyro.distributions import constraints
from torch import Tensor
from torch.nn.functional import logsigmoid

from dgm_core.contexts import ContextShape
from pyro_dgm.conditionals.base import Parametric, size_of
from pyro_dgm.conditionals.elementwise import Elementwise
from pyro_dgm.nn.special import log1mexp, series


class ContinuousBernoulli(Parametric):
    """Independent gray levels:  p(x_i) proportional to s^x_i (1 - s)^(1 - x_i) on [0, 1],  s =
    sigmoid(l_i(c)).

    log p(x) = sum_i x_i l_i - softplus(l_i) + log(l_i / tanh(l_i / 2)).

    Args:
        dim: a size or a shape.
        context_shape: 0 = free parameters.

    Shapes:
        context (*batch, *context_shape) -> batch_shape (*batch,), event_shape (dim,).

    References:
        Loaiza-Ganem & Cunningham (2019), arXiv:1907.06845. The normalizer is a Taylor series where
        abs(l) < 0.1, exact to 1e-13, and is taken in l rather than s elsewhere, so that it keeps
        its precision and gradient for any l.

    Example:
        >>> round(ContinuousBernoulli(2)().log_prob(torch.tensor([0.0, 0.3])).item(), 4)
        0.0
    """

    def __init__(
        self,
        dim: int | tuple[int, ...],
        *,
        context_shape: ContextShape = 0,
    ) -> None:
        super().__init__(dim, size_of(dim), context_shape=context_shape)

    def build(self, raw: Tensor) -> dist.TorchDistribution:
        """The distribution with parameters `raw` (*batch, num_params)."""
        (logits,) = self.split(raw)
        return _ContinuousBernoulli(logits).to_event(len(self.event_shape))


class _ContinuousBernoulli(Elementwise):
    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {"logits": constraints.real}
    support = constraints.unit_interval
    has_rsample = True
    logits: Tensor

    def _away_from_zero(self, bound: float = 0.1) -> tuple[Tensor, Tensor]:
        """Where series are used, and abs(l), but one there, so that no gradient is infinite."""
        near = self.logits.abs() < bound
        return near, torch.where(near, 1.0, self.logits.abs())

    def _mirrored(self, value: Tensor) -> Tensor:
        """x for negative l, 1 - x for positive l, which has the density of abs(l) at -abs(l)."""
        return torch.where(self.logits < 0, value, 1 - value)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        near, size = self._away_from_zero()
        exact = size.log() - log1mexp(size) - size * self._mirrored(value)
        bend = log(2) + series(self.logits.square(), _LOG_RATIO)
        return torch.where(near, value * self.logits + logsigmoid(-self.logits) + bend, exact)

    def icdf(self, u: Tensor) -> Tensor:
        """The quantile at u."""
        return self._quantile(self._mirrored(u))

    def _quantile(self, v: Tensor) -> Tensor:
        """log(1 + v (e^l - 1)) / l at -abs(l), exact for any v; mirrored for positive l."""
        near, size = self._away_from_zero()
        u = self._mirrored(v)
        end = v >= 1
        v = torch.where(end, 0.5, v)
        low = torch.log1p(v.clamp(max=0.5) * torch.expm1(-size))
        high = torch.log(1 - v + v * torch.exp(-size))
        exact = torch.where(end, 1.0, -torch.where(v < 0.5, low, high) / size).clamp(max=1.0)
        w, l = u * (1 - u), self.logits
        bend = 1 - 2 * u
        inner = (1 - 6 * w) / 24 + l * bend * (1 - 12 * w) / 120
        return torch.where(
            near, u + w * l * (0.5 + l * (bend / 6 + l * inner)), self._mirrored(exact)
        )

    def rsample(self, sample_shape: tuple[int, ...] = ()) -> Tensor:
        return self._quantile(self._uniform(sample_shape))

    @property
    def mean(self) -> Tensor:
        near, size = self._away_from_zero()
        below = 1 / size - 1 / torch.expm1(size)  # the mean at -abs(l)
        bend = 0.5 + self.logits * series(self.logits.square(), _MEAN)
        return torch.where(near, bend, self._mirrored(below))

    @property
    def variance(self) -> Tensor:
        near, size = self._away_from_zero(0.5)
        exact = size**-2 - torch.exp(-size) / torch.expm1(-size).square()
        return torch.where(near, series(self.logits.square(), _VARIANCE), exact)


# Series in l^2 of log(l / 2 / tanh(l / 2)), of (mean - 1/2) / l and of the variance.
_LOG_RATIO = (0.0, 1 / 12, -7 / 1440, 31 / 90720, -127 / 4838400)
_MEAN = (1 / 12, -1 / 720, 1 / 30240, -1 / 1209600)
_VARIANCE = (
    1 / 12,
    -1 / 240,
    1 / 6048,
    -1 / 172800,
    1 / 5322240,
    -691 / 118879488000,
    1 / 5748019200,
)
