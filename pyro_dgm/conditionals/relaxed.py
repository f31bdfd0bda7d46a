"""Discrete variables that let gradients through: relaxed to the simplex or the unit interval, or
one-hot with the gradient of their probabilities.
"""

from math import lgamma
from typing import Any, ClassVar

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from dgm_core.arguments import check_flag
from dgm_core.contexts import ContextShape
from dgm_core.quantization import check_temperature
from dgm_core.schedules import value_of
from pyro_dgm.conditionals.base import Parametric, positive, size_of
from pyro_dgm.conditionals.elementwise import Elementwise, inside, open_unit, smallest
from pyro_dgm.nn.requirements import require
from pyro_dgm.nn.states import is_repeated

__all__ = ["GumbelSoftmax", "RelaxedBernoulli", "StraightThrough"]


class Relaxed(Parametric):
    """A conditional with a temperature: a number, learned, or a schedule of how often it was called
    in training.
    """

    steps: Tensor

    def __init__(
        self,
        dim: int | tuple[int, ...],
        temperature: Any,
        learned: bool,
        context_shape: ContextShape,
    ) -> None:
        super().__init__(dim, size_of(dim), context_shape=context_shape)
        self.temperature = check_temperature(temperature, check_flag("learned", learned))
        self.raw_temperature = nn.Parameter(torch.zeros(())) if learned else None
        if callable(self.temperature):
            self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def build(self, raw: Tensor) -> TorchDistribution:
        """The distribution with parameters `raw` (*batch, num_params)."""
        logits = self.split(raw)[0]
        temperature = self.temperature
        if callable(temperature):
            temperature = value_of(temperature, self.steps)
            if self.training and not is_repeated():
                self.steps.copy_(self.steps + 1)
        elif self.raw_temperature is not None:
            temperature = temperature * positive(self.raw_temperature, self.floor)
        temperature = torch.as_tensor(temperature, dtype=logits.dtype, device=logits.device)
        good = temperature > 0
        require("temperature", "a schedule of positive numbers", temperature, good)
        return self.relaxed(logits, torch.where(good, temperature, torch.nan))

    def relaxed(self, logits: Tensor, temperature: Tensor) -> TorchDistribution:
        """The distribution of these log-odds at a temperature."""
        raise TypeError("A relaxed conditional says what its distribution is.")

    def _sizes(self) -> tuple[str, ...]:
        learned = ("learned=True",) if self.raw_temperature is not None else ()
        return (f"temperature={self.temperature!r}", *learned)


class GumbelSoftmax(Relaxed):
    """The concrete distribution: points of the simplex around a one-hot vector,  y =
    softmax((l(c) + g) / t),  g_k ~ Gumbel.

    log p(y) = log (K - 1)! + (K - 1) log t + sum_k [l_k - (t + 1) log y_k] - K log sum_k exp(l_k -
    t log y_k), a density in K - 1 of the coordinates. As t falls to zero, the largest coordinate is
    that of class k with probability softmax(l)_k. In single precision y_k below 1e-31 are moved
    there, as happens at temperatures below 0.2.

    Args:
        dim: K, or a shape with the classes last.
        temperature: t, a positive number, or a schedule of the number of calls in training.
        learned: whether t is a weight that begins at the number.
        context_shape: 0 = free parameters.

    Shapes:
        context (*batch, *context_shape) -> batch_shape (*batch,), event_shape dim. Values on the
        simplex along the last axis.

    Raises:
        ValueError: for fewer than 2 classes, and a temperature that is not positive.

    References:
        Maddison, Mnih & Teh (2017), arXiv:1611.00712; Jang, Gu & Poole (2017), arXiv:1611.01144.

    Example:
        >>> round(GumbelSoftmax(3, temperature=1.0)().log_prob(torch.ones(3) / 3).item(), 4)
        0.6931
    """

    def __init__(
        self,
        dim: int | tuple[int, ...],
        *,
        temperature: Any = 0.5,
        learned: bool = False,
        context_shape: ContextShape = 0,
    ) -> None:
        super().__init__(dim, temperature, learned, context_shape)
        check_classes(self.event_shape)

    def relaxed(self, logits: Tensor, temperature: Tensor) -> TorchDistribution:
        """The distribution of these log-odds at a temperature."""
        found = _GumbelSoftmax(logits, temperature)
        return found.to_event(len(self.event_shape) - 1)


class StraightThrough(Parametric):
    """One-hot vectors whose gradient is that of their probabilities:  y = e_k,  k ~ softmax(l(c)),
    dy := d softmax(l(c)).

    log p(y) = sum_k y_k log softmax(l)_k. The gradient of any function that is linear in y is
    unbiased, that of others is not; there is no temperature, and values are classes exactly.

    Args:
        dim: K, or a shape with the classes last.
        context_shape: 0 = free parameters.

    Shapes:
        context (*batch, *context_shape) -> batch_shape (*batch,), event_shape dim.

    Raises:
        ValueError: for fewer than 2 classes.

    References:
        Bengio, Leonard & Courville (2013), arXiv:1308.3432.

    Example:
        >>> round(StraightThrough(4)().log_prob(torch.tensor([0.0, 1.0, 0.0, 0.0])).item(), 4)
        -1.3863
    """

    def __init__(self, dim: int | tuple[int, ...], *, context_shape: ContextShape = 0) -> None:
        super().__init__(dim, size_of(dim), context_shape=context_shape)
        check_classes(self.event_shape)

    def build(self, raw: Tensor) -> TorchDistribution:
        """The distribution with parameters `raw` (*batch, num_params)."""
        return _StraightThrough(self.split(raw)[0]).to_event(len(self.event_shape) - 1)


class RelaxedBernoulli(Relaxed):
    """Numbers in (0, 1) around zero and one:  y_i = s((l_i(c) + u_i) / t),  s the logistic
    function, u_i ~ Logistic.

    log p(y) = log t + log s(a) + log s(-a) - log y - log(1 - y),  a = t logit(y) - l. y_i > 1/2
    with probability s(l_i) at every temperature.

    Args:
        dim: a size or a shape.
        temperature: t, a positive number, or a schedule of the number of calls in training.
        learned: whether t is a weight that begins at the number.
        context_shape: 0 = free parameters.

    Shapes:
        context (*batch, *context_shape) -> batch_shape (*batch,), event_shape dim.

    Raises:
        ValueError: for a temperature that is not positive, and for values outside (0, 1).

    References:
        Maddison, Mnih & Teh (2017), arXiv:1611.00712 (BinConcrete).

    Example:
        >>> round(RelaxedBernoulli(1)().log_prob(torch.tensor([0.2])).item(), 4)
        -0.3646
    """

    def __init__(
        self,
        dim: int | tuple[int, ...],
        *,
        temperature: Any = 0.5,
        learned: bool = False,
        context_shape: ContextShape = 0,
    ) -> None:
        super().__init__(dim, temperature, learned, context_shape)

    def relaxed(self, logits: Tensor, temperature: Tensor) -> TorchDistribution:
        """The distribution of these log-odds at a temperature."""
        found = _RelaxedBernoulli(logits, temperature)
        return found.to_event(len(self.event_shape))


def check_classes(event_shape: tuple[int, ...]) -> None:
    """Raise a ValueError for fewer than two classes."""
    if event_shape[-1] < 2:
        raise ValueError(f"dim must end with at least 2 classes, got {event_shape}.")


class _OfClasses(TorchDistribution):
    """A distribution of vectors with an entry for each class, given by log-odds (*batch, K)."""

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    has_rsample = True

    def __init__(self, logits: Tensor, *settings: Tensor) -> None:
        self.logits, self.settings = torch.log_softmax(logits, -1), settings
        super().__init__(logits.shape[:-1], logits.shape[-1:], validate_args=False)

    def expand(self, batch_shape: torch.Size, _instance: None = None) -> "_OfClasses":
        logits = self.logits.expand(*batch_shape, *self.event_shape)
        return type(self)(logits, *self.settings)

    def _noise(self, sample_shape: torch.Size | tuple[int, ...]) -> Tensor:
        """Gumbel variables."""
        shape = self._extended_shape(torch.Size(sample_shape))
        uniform = torch.rand(shape, dtype=self.logits.dtype, device=self.logits.device)
        return -torch.log(-torch.log(inside(uniform)))


class _GumbelSoftmax(_OfClasses):
    @property
    def support(self) -> constraints.Constraint:
        return constraints.simplex

    def rsample(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> Tensor:
        y = torch.softmax((self.logits + self._noise(sample_shape)) / self.settings[0], -1)
        return y.clamp(min=smallest(y.dtype))

    def log_prob(self, value: Tensor) -> Tensor:
        t, num = self.settings[0], self.event_shape[0]
        log_y = torch.log(value)
        scores = self.logits - t * log_y
        total = (scores - log_y).sum(-1) - num * torch.logsumexp(scores, -1)
        return total + lgamma(num) + (num - 1) * torch.log(t)


class _StraightThrough(_OfClasses):
    @property
    def support(self) -> constraints.Constraint:
        return constraints.one_hot

    @property
    def mean(self) -> Tensor:
        return torch.softmax(self.logits, -1)

    def rsample(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> Tensor:
        index = (self.logits + self._noise(sample_shape)).argmax(-1)
        one_hot = torch.nn.functional.one_hot(index, self.event_shape[0]).to(self.logits.dtype)
        probs = torch.softmax(self.logits, -1)
        return one_hot + (probs - probs.detach())  # one-hot exactly

    def log_prob(self, value: Tensor) -> Tensor:
        return (value * self.logits).sum(-1)


class _RelaxedBernoulli(Elementwise):
    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {
        "logits": constraints.real,
        "temperature": constraints.positive,
    }
    support = open_unit
    has_rsample = True
    logits: Tensor
    temperature: Tensor

    def rsample(self, sample_shape: tuple[int, ...] = ()) -> Tensor:
        uniform = self._uniform(sample_shape)
        return inside(torch.sigmoid((self.logits + torch.logit(uniform)) / self.temperature))

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        log_y, log_rest = torch.log(value), torch.log1p(-value)
        a = self.temperature * (log_y - log_rest) - self.logits
        scores = logsigmoid(a) + logsigmoid(-a) + torch.log(self.temperature)
        return scores - log_y - log_rest
