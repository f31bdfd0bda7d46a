"""Discrete data: classes, and pixels with a finite number of levels."""

from typing import Any, ClassVar

import torch
from pyro import distributions as dist
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor
from torch.nn.functional import log_softmax, logsigmoid

from dgm_core.arguments import check_count
from dgm_core.contexts import ContextShape
from pyro_dgm.conditionals.base import Parametric, size_of
from pyro_dgm.conditionals.elementwise import Elementwise
from pyro_dgm.conditionals.logistic import LogisticMixture
from pyro_dgm.nn.special import log1mexp

__all__ = ["Categorical", "DiscretizedLogisticMixture"]


class Categorical(Parametric):
    """Independent classes:  x_i ~ Categorical(softmax(l_i(c))),  x_i in 0, ..., num_classes - 1.

    Args:
        dim: a size or a shape; () of a single class, which is a label without event dimensions, as
            enumeration needs it.
        num_classes: the number of classes, K.
        context_shape: 0 = free parameters.

    Shapes:
        context (*batch, *context_shape) -> batch_shape (*batch,), event_shape (dim,). Values are
        integers.

    Raises:
        ValueError: if num_classes < 2.

    Example:
        >>> round(Categorical(2, 4)().log_prob(torch.tensor([0, 3])).item(), 4)
        -2.7726
    """

    def __init__(
        self,
        dim: int | tuple[int, ...],
        num_classes: int,
        *,
        context_shape: ContextShape = 0,
    ) -> None:
        num_classes = check_count("num_classes", num_classes, 2)
        single = dim == ()
        dim = 1 if single else dim
        super().__init__(dim, num_classes * size_of(dim), context_shape=context_shape)
        self.event_shape = () if single else self.event_shape
        self.num_classes = num_classes

    def build(self, raw: Tensor) -> dist.TorchDistribution:
        """The distribution with parameters `raw` (*batch, num_params)."""
        return _Categorical(logits=self.logits(raw)).to_event(len(self.event_shape))

    def logits(self, raw: Tensor) -> Tensor:
        """The parameters (*batch, num_params) as logits (*batch, dim, num_classes)."""
        logits = raw.unflatten(-1, (self.num_classes, *self.event_shape))
        return logits.movedim(-1 - len(self.event_shape), -1)

    def _sizes(self) -> tuple[str, ...]:
        return (str(self.num_classes),)


class _Categorical(dist.Categorical):
    def __init__(self, logits: Tensor, validate_args: bool | None = None) -> None:
        self.logits = self._param = log_softmax(logits, -1)  # one pass, as its gradient is
        self._num_events = logits.shape[-1]
        TorchDistribution.__init__(self, logits.shape[:-1], validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        new = type(self).__new__(type(self)) if _instance is None else _instance
        return super().expand(batch_shape, new)

    def _validate_sample(self, value: Tensor) -> None:
        try:
            super()._validate_sample(value)
        except ValueError as error:
            classes = self.logits.shape[-1]
            if torch.all((value >= 0) & (value < classes) & (value == value.round())):
                raise  # the shape was wrong
            raise ValueError(
                f"Categorical expects values 0, ..., {classes - 1}, got others; number the classes "
                "from 0, or set num_classes."
            ) from error


class DiscretizedLogisticMixture(LogisticMixture):
    """Independent pixels with levels 0, 1/(L - 1), ..., 1:  a mixture of logistic distributions,
    rounded to the nearest level.

    P(x_i = t) = sum_j w_j [s((u + h - m_j) / s_j) - s((u - h - m_j) / s_j)],  s the logistic
    function, u = 2 t - 1 in [-1, 1], h = 1 / (L - 1); the lowest and highest levels take the tails,
    so the probabilities of the L levels sum to one. The difference is taken as log s(a) - log s(b)
    = log s(a) + log s(-b) + log(1 - e^(b - a)), exact however far t is from m_j.

    Args:
        dim: a size or a shape.
        num_components: the number of components, K.
        num_levels: L, 256 for data x / 255.
        context_shape: 0 = free parameters.
        min_scale: the smallest s_j.

    Shapes:
        context (*batch, *context_shape) -> batch_shape (*batch,), event_shape (dim,). Values in [0,
        1].

    Raises:
        ValueError: if num_components < 1 or num_levels < 2.

    References:
        Salimans et al. (2017), arXiv:1701.05517, here without the coupling of color channels.

    Example:
        >>> pixel = DiscretizedLogisticMixture(1, 5)()
        >>> round(pixel.log_prob(torch.arange(256.0)[:, None] / 255).exp().sum().item(), 4)
        1.0
    """

    def __init__(
        self,
        dim: int | tuple[int, ...],
        num_components: int = 5,
        *,
        num_levels: int = 256,
        context_shape: ContextShape = 0,
        min_scale: float = 1e-3,
    ) -> None:
        num_levels = check_count("num_levels", num_levels, 2)
        super().__init__(dim, num_components, context_shape=context_shape, min_scale=min_scale)
        self.num_levels = num_levels

    def build(self, raw: Tensor) -> dist.TorchDistribution:
        """The distribution with parameters `raw` (*batch, num_params): weights, locations and
        scales, one component after the other.
        """
        pixels = _DiscretizedLogisticMixture(*self.components(raw), num_levels=self.num_levels)
        return pixels.to_event(len(self.event_shape))

    def rounded(self, y: Tensor) -> Tensor:
        """The levels in [0, 1] nearest to numbers y, of which -1 and 1 are the ends."""
        return nearest_level(y, self.num_levels)

    def _sizes(self) -> tuple[str, ...]:
        return (str(self.num_components), f"num_levels={self.num_levels}")


def log_level(level: Tensor, loc: Tensor, scale: Tensor, num_levels: int) -> Tensor:
    """log P(level) in [0, 1] of a logistic variable around loc in [-1, 1] that is rounded.

    Example:
        >>> log_level(torch.tensor(0.0), torch.tensor(0.9), torch.tensor(-5.0).exp(), 256)
        tensor(-281.4030)
    """
    half = 1.0 / (num_levels - 1)
    centered = 2 * level - 1 - loc
    upper, lower = (centered + half) / scale, (centered - half) / scale
    inner = logsigmoid(upper) + logsigmoid(-lower) + log1mexp(2 * half / scale)
    lowest, highest = level < half / 2, level > 1 - half / 2
    return torch.where(lowest, logsigmoid(upper), torch.where(highest, logsigmoid(-lower), inner))


def nearest_level(y: Tensor, num_levels: int) -> Tensor:
    """The level in [0, 1] nearest to numbers y, of which -1 and 1 are the ends.

    Example:
        >>> nearest_level(torch.tensor([-7.0, 0.1]), 5)
        tensor([0.0000, 0.5000])
    """
    levels = (y + 1) / 2 * (num_levels - 1)
    return levels.round().clamp(0, num_levels - 1) / (num_levels - 1)


class Levels(constraints.Constraint):
    """The numbers 0, 1/(num_levels - 1), ..., 1, up to rounding."""

    is_discrete = True

    def __init__(self, num_levels: int) -> None:
        self.num_levels = num_levels
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        scaled = value.double() * (self.num_levels - 1)
        return ((scaled - scaled.round()).abs() < 1e-3) & (value >= 0) & (value <= 1)

    def __repr__(self) -> str:
        return f"Levels({self.num_levels})"


class _DiscretizedLogisticMixture(Elementwise):
    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {
        "logits": constraints.independent(constraints.real, 1),
        "loc": constraints.independent(constraints.real, 1),
        "scale": constraints.independent(constraints.positive, 1),
    }
    components = True
    has_rsample = False
    logits: Tensor
    loc: Tensor
    scale: Tensor
    num_levels: int

    @constraints.dependent_property(is_discrete=True, event_dim=0)
    def support(self) -> constraints.Constraint:
        return Levels(self.num_levels)

    def _validate_sample(self, value: Tensor) -> None:
        try:
            super()._validate_sample(value)
        except ValueError as error:
            if torch.all(Levels(self.num_levels).check(value)):  # the shape was wrong
                raise
            raise ValueError(
                f"DiscretizedLogisticMixture expects values k / {self.num_levels - 1} for k = 0, "
                f"..., {self.num_levels - 1}, got "
                "others; round the data, or set num_levels."
            ) from error

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        return self._score(value.to(self.loc.dtype))

    def _score(self, value: Tensor) -> Tensor:
        log_probs = log_level(value[..., None], self.loc, self.scale, self.num_levels)
        return torch.logsumexp(torch.log_softmax(self.logits, -1) + log_probs, -1)

    def sample(self, sample_shape: tuple[int, ...] = ()) -> Tensor:
        with torch.no_grad():
            index = dist.Categorical(logits=self.logits).sample(torch.Size(sample_shape))[..., None]
            loc, scale = (
                p.expand(*sample_shape, *p.shape).gather(-1, index)[..., 0]
                for p in (self.loc, self.scale)
            )
            u = self._uniform(sample_shape)
            return nearest_level(loc + scale * (torch.log(u) - torch.log1p(-u)), self.num_levels)

    @property
    def mean(self) -> Tensor:
        """Sum over k of P(x > level k), level by level, divided by L - 1."""
        half, weights = 1.0 / (self.num_levels - 1), torch.softmax(self.logits, -1)
        tails = (
            (weights * torch.sigmoid((self.loc - (2 * k + 1) * half + 1) / self.scale)).sum(-1)
            for k in range(self.num_levels - 1)
        )
        return sum(tails, torch.zeros_like(self.loc[..., 0])) * half

    @property
    def variance(self) -> Tensor:
        """Sum over k of P(x = level k) (level k - mean)^2, level by level."""
        mean = self.mean
        levels = (torch.full_like(mean, k / (self.num_levels - 1)) for k in range(self.num_levels))
        parts = (self._score(level).exp() * (level - mean).square() for level in levels)
        return sum(parts, torch.zeros_like(mean))
