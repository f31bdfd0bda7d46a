"""Data strictly between 0 and 1: the logit-normal distribution."""

from math import log, pi
from typing import ClassVar

import torch
from pyro import distributions as dist
from pyro.distributions import constraints
from torch import Tensor

from dgm_core.arguments import check_fraction
from dgm_core.contexts import ContextShape
from pyro_dgm.conditionals.base import Parametric, size_of
from pyro_dgm.conditionals.elementwise import OpenInterval, inside, open_unit, smallest


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
        >>> round(LogitNormal(2)().log_prob(torch.tensor([0.5, 0.5])).item(), 4)
        0.9347
    """

    def __init__(
        self,
        dim: int | tuple[int, ...],
        *,
        context_shape: ContextShape = 0,
        min_scale: float = 1e-2,
    ) -> None:
        num_params = 2 * size_of(dim)
        super().__init__(
            dim,
            num_params,
            context_shape=context_shape,
            floor=check_fraction("min_scale", min_scale),
        )

    def build(self, raw: Tensor) -> dist.TorchDistribution:
        """The distribution with parameters `raw` (*batch, num_params)."""
        return _LogitNormal(*self.loc_and_scale(raw)).to_event(len(self.event_shape))


class _LogitNormal(OpenInterval):
    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {
        "loc": constraints.real,
        "scale": constraints.positive,
    }
    support = open_unit
    has_rsample = True
    loc: Tensor
    scale: Tensor

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        # The slope of 1 / x overflows at the smallest draws, which do not move with loc and scale.
        value = torch.where(value > smallest(value.dtype), value, value.detach())
        log_odd, log_even = torch.log(value), torch.log1p(-value)
        standard = (log_odd - log_even - self.loc) / self.scale
        return (
            -0.5 * standard.square()
            - torch.log(self.scale)
            - 0.5 * log(2 * pi)
            - log_odd
            - log_even
        )

    def rsample(self, sample_shape: tuple[int, ...] = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        noise = torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)
        return inside(torch.sigmoid(self.loc + self.scale * noise))

    @property
    def mean(self) -> Tensor:
        return _moments(self.loc, self.scale)[0]

    @property
    def variance(self) -> Tensor:
        return _moments(self.loc, self.scale)[1]


def _moments(loc: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of sigmoid(y), y ~ Normal(loc, scale), by the trapezoidal rule.

    The rule runs over y for scale < 2, else over t in E f(y) = int f'(t) P(y > t) dt; the poles of
    sigmoid make an error of 1e-10 in either. By symmetry loc is taken negative.
    """
    center, narrow = -loc.abs()[..., None], (scale < 2)[..., None]
    low, high = scale[..., None].clamp(max=2.0), scale[..., None].clamp(min=2.0)
    n = torch.arange(-20, 21, dtype=loc.dtype, device=loc.device) * 0.4
    x = torch.sigmoid(center + low * n)
    weights = torch.softmax(-0.5 * n.square(), -1)
    mean = (weights * x).sum(-1, keepdim=True)
    variance = (weights * (x - mean).square()).sum(-1, keepdim=True)
    t = torch.arange(-45, 46, dtype=loc.dtype, device=loc.device) * 0.8
    slopes = 0.8 * torch.sigmoid(t) * torch.sigmoid(-t) * torch.special.ndtr((center - t) / high)
    wide = slopes.sum(-1, keepdim=True)
    spread = (2 * torch.sigmoid(t) * slopes).sum(-1, keepdim=True) - wide.square()
    mean, variance = torch.where(narrow, mean, wide), torch.where(narrow, variance, spread)
    mean = mean[..., 0]
    return torch.where(loc > 0, 1 - mean, mean), variance[..., 0]
