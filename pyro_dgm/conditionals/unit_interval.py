"""Data in the unit interval: continuous Bernoulli, Beta, Kumaraswamy and logit-normal
likelihoods.
"""

from math import log
from typing import ClassVar

import torch
from pyro import distributions as dist
from pyro.distributions import constraints
from torch import Tensor
from torch.nn.functional import logsigmoid

from dgm_core.arguments import check_fraction
from pyro_dgm.conditionals.base import Parametric, size_of
from pyro_dgm.conditionals.elementwise import (
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

    >>> round(ContinuousBernoulli(2)().log_prob(torch.tensor([0.0, 0.3])).item(), 4)
    0.0
    """

    def __init__(
        self, dim: int | tuple[int, ...], *, context_dim: int = 0, pixelwise: bool = False
    ) -> None:
        super().__init__(dim, size_of(dim), context_dim=context_dim, pixelwise=pixelwise)

    def build(self, raw: Tensor) -> dist.TorchDistribution:
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

    >>> Beta(2)().log_prob(torch.tensor([0.1, 0.3])).abs() < 1e-6
    tensor(True)
    """

    def __init__(
        self,
        dim: int | tuple[int, ...],
        *,
        context_dim: int = 0,
        min_concentration: float = 1e-2,
        pixelwise: bool = False,
    ) -> None:
        num_params = 2 * size_of(dim)
        super().__init__(
            dim,
            num_params,
            context_dim=context_dim,
            pixelwise=pixelwise,
            floor=check_fraction("min_concentration", min_concentration),
        )

    def build(self, raw: Tensor) -> dist.TorchDistribution:
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

    >>> Kumaraswamy(2)().log_prob(torch.tensor([0.1, 0.3])).abs() < 1e-6
    tensor(True)
    """

    def __init__(
        self,
        dim: int | tuple[int, ...],
        *,
        context_dim: int = 0,
        min_concentration: float = 1e-2,
        pixelwise: bool = False,
    ) -> None:
        num_params = 2 * size_of(dim)
        super().__init__(
            dim,
            num_params,
            context_dim=context_dim,
            pixelwise=pixelwise,
            floor=check_fraction("min_concentration", min_concentration),
        )

    def build(self, raw: Tensor) -> dist.TorchDistribution:
        """The distribution with parameters `raw` (*batch, num_params)."""
        a, b = self.split(self.positive(raw))
        return _Kumaraswamy(a, b).to_event(len(self.event_shape))


class LogitNormal(Parametric):
    """Independent entries in (0, 1):  x_i = sigmoid(y_i),  y_i ~ Normal(loc_i(c), scale_i(c)).

    Args: dim, a size or a shape; context_dim (0 = free parameters); min_scale, the smallest scale;
        pixelwise, as in `Parametric`.
    Shapes: context (*batch, context_dim) -> batch_shape (*batch,), event_shape (dim,).
    Raises: with validation on, ValueError for values that are not strictly between 0 and 1.

    >>> round(LogitNormal(2)().log_prob(torch.tensor([0.5, 0.5])).item(), 4)
    0.9347
    """

    def __init__(
        self,
        dim: int | tuple[int, ...],
        *,
        context_dim: int = 0,
        min_scale: float = 1e-2,
        pixelwise: bool = False,
    ) -> None:
        num_params = 2 * size_of(dim)
        super().__init__(
            dim,
            num_params,
            context_dim=context_dim,
            pixelwise=pixelwise,
            floor=check_fraction("min_scale", min_scale),
        )

    def build(self, raw: Tensor) -> dist.TorchDistribution:
        """The distribution with parameters `raw` (*batch, num_params)."""
        loc, raw_scale = self.split(raw)
        return _LogitNormal(loc, self.positive(raw_scale)).to_event(len(self.event_shape))


class _ContinuousBernoulli(Elementwise):
    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {"logits": constraints.real}
    support = constraints.unit_interval
    has_rsample = True
    logits: Tensor

    def _away_from_zero(self) -> tuple[Tensor, Tensor]:
        """Where the series is used, and logits that are one there, so that no gradient of the
        unused branch is infinite.
        """
        near = self.logits.abs() < 0.1
        return near, torch.where(near, 1.0, self.logits)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        near, logits = self._away_from_zero()
        exact = torch.log(logits / torch.tanh(logits / 2))
        square = self.logits.square()
        series = log(2) + square * (
            1 / 12 - square * (7 / 1440 - square * (31 / 90720 - square * (127 / 4838400)))
        )
        return value * self.logits + logsigmoid(-self.logits) + torch.where(near, series, exact)

    def icdf(self, u: Tensor) -> Tensor:
        """log(1 + u (e^l - 1)) / l, for negative l; for positive l by the symmetry x -> 1 - x."""
        near, logits = self._away_from_zero()
        l, v = -logits.abs(), torch.where(logits < 0, u, 1 - u)
        exact = torch.log1p(v * torch.expm1(l)) / l
        exact = torch.where(logits < 0, exact, 1 - exact)
        w, l = u * (1 - u), self.logits
        bend = 1 - 2 * u
        series = u + w * l * (
            1 / 2 + l * (bend / 6 + l * ((1 - 6 * w) / 24 + l * bend * (1 - 12 * w) / 120))
        )
        return torch.where(near, series, exact)

    def rsample(self, sample_shape: tuple[int, ...] = ()) -> Tensor:
        return self.icdf(self._uniform(sample_shape))

    @property
    def mean(self) -> Tensor:
        near, logits = self._away_from_zero()
        square = self.logits.square()
        series = 0.5 + self.logits * (
            1 / 12 - square * (1 / 720 - square * (1 / 30240 - square / 1209600))
        )
        return torch.where(near, series, 0.5 + 0.5 / torch.tanh(logits / 2) - 1 / logits)


class _Beta(dist.Beta):
    def rsample(self, sample_shape: tuple[int, ...] = ()) -> Tensor:
        return inside(super().rsample(sample_shape))

    def _validate_sample(self, value: Tensor) -> None:
        check_inside(self, value)
        super()._validate_sample(value)


class _Kumaraswamy(OpenInterval):
    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {
        "concentration1": constraints.positive,
        "concentration0": constraints.positive,
    }
    support = constraints.unit_interval
    has_rsample = True
    concentration1: Tensor
    concentration0: Tensor

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        a, b, log_value = self.concentration1, self.concentration0, torch.log(value)
        return (
            torch.log(a * b)
            + (a - 1) * log_value
            + (b - 1) * torch.log(-torch.expm1(a * log_value))
        )

    def rsample(self, sample_shape: tuple[int, ...] = ()) -> Tensor:
        log_u = torch.log(self._uniform(sample_shape))
        return inside(
            torch.exp(torch.log(-torch.expm1(log_u / self.concentration0)) / self.concentration1)
        )

    @property
    def mean(self) -> Tensor:
        inverse, b = 1 / self.concentration1, self.concentration0
        return torch.exp(
            torch.log(b)
            + torch.lgamma(1 + inverse)
            + torch.lgamma(b)
            - torch.lgamma(1 + inverse + b)
        )


class _LogitNormal(OpenInterval):
    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {
        "loc": constraints.real,
        "scale": constraints.positive,
    }
    support = constraints.unit_interval
    has_rsample = True
    loc: Tensor
    scale: Tensor

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        log_odd, log_even = torch.log(value), torch.log1p(-value)
        standard = (log_odd - log_even - self.loc) / self.scale
        return (
            -0.5 * standard.square()
            - torch.log(self.scale)
            - 0.5 * log(2 * torch.pi)
            - log_odd
            - log_even
        )

    def rsample(self, sample_shape: tuple[int, ...] = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        noise = torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)
        return inside(torch.sigmoid(self.loc + self.scale * noise))

    @property
    def mean(self) -> Tensor:
        return logistic_normal_mean(self.loc, self.scale)
