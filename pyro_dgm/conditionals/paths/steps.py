"""The same conditional in each step of a sequence."""

from typing import Any, ClassVar

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor

from dgm_core.arguments import check_count, check_instance
from dgm_core.contexts import is_several
from dgm_core.paths import check_path, stepwise
from pyro_dgm.conditionals.base import Conditional
from pyro_dgm.conditionals.drawn import Drawn
from pyro_dgm.conditionals.paths.base import (
    ObservedPath,
    OfSteps,
    batch_of,
    cleared,
    continued_shape,
    filled,
    first_steps,
    mask_of,
    total,
)

__all__ = ["Steps"]


class Steps(ObservedPath):
    """The same conditional in each step, independently given the context:  x_t ~ p(x | c_t).

    The likelihood of sequence models; as a guide it is the mean field over time.

    Args:
        conditional: of one step.
        length: T.

    Shapes:
        context (*batch, T, *context_shape of a step), or none; lengths (*batch,); observed (*batch,
        T), false for steps that are missing, which are drawn but not scored -> batch_shape
        (*batch,), event_shape (T, *event_shape of a step).

    Raises:
        ValueError: if the conditional is none, or takes labels, or observed is no mask.

    Example:
        >>> from pyro_dgm.conditionals import Bernoulli
        >>> x, lengths = torch.zeros(5, 3, 2), torch.tensor([3, 1, 2, 3, 0])
        >>> (Steps(Bernoulli(2), 3)(lengths=lengths).log_prob(x) / 2).detach()
        tensor([-2.0794, -0.6931, -1.3863, -2.0794,  0.0000])
    """

    def __init__(self, conditional: Conditional, length: int) -> None:
        length = check_count("length", length)
        check_instance(
            "conditional", conditional, Conditional, "a conditional such as Bernoulli(3)"
        )
        super().__init__(
            length,
            conditional.event_shape,
            context_shape=stepwise(conditional.context_shape, length),
        )
        self.conditional = conditional

    def along(
        self, context: Any, lengths: Tensor | None, observed: Tensor | None = None
    ) -> "_StepsDistribution":
        """The distribution given a checked context, checked lengths and a checked mask."""
        batch = batch_of(context, self.context_shape, lengths, observed)
        mask, shape = mask_of(lengths, self.length), self.conditional.context_shape
        if is_several(shape):
            parts = zip(context, shape)
            context = tuple(cleared(part, mask, len(own)) for part, own in parts)
        elif context is not None:
            context = cleared(context, mask, len(shape))
        steps = self.conditional.condition(context)
        return _StepsDistribution(steps.expand((*batch, self.length)), lengths, observed)

    def _sizes(self) -> tuple[str, ...]:
        return (repr(self.conditional),)


class _StepsDistribution(OfSteps, TorchDistribution):
    """Independent steps (*batch, length), of which some are random and some observed."""

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}

    def __init__(
        self, steps: TorchDistribution, lengths: Tensor | None, observed: Tensor | None
    ) -> None:
        self.steps, self.lengths, self.observed = steps, lengths, observed
        self._kept: Drawn | None = None
        *batch, length = steps.batch_shape
        event_shape = torch.Size((length, *steps.event_shape))
        super().__init__(torch.Size(batch), event_shape, validate_args=False)

    @property
    def has_rsample(self) -> bool:
        return self.steps.has_rsample

    @property
    def keeps_draws(self) -> bool:
        """Whether a draw leaves its log-density."""
        return getattr(self.steps, "keeps_draws", False)

    @property
    def support(self) -> constraints.Constraint:
        return constraints.independent(self.steps.support, 1)

    def expand(self, batch_shape: torch.Size, _instance: None = None) -> "_StepsDistribution":
        steps = self.steps.expand((*batch_shape, self.event_shape[0]))
        return _StepsDistribution(steps, self.lengths, self.observed)

    def rsample(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> Tensor:
        drawn = self.steps.rsample(torch.Size(sample_shape))
        path = self._masked(drawn)
        if self.keeps_draws:
            score = total(self.steps.log_prob(drawn), self.lengths, self.observed)
            self._kept = Drawn(path, score)
        return path

    def sample(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> Tensor:
        if not self.has_rsample:
            return self._masked(self.steps.sample(torch.Size(sample_shape)))
        with torch.no_grad():
            return self.rsample(sample_shape)

    def continued(self, value: Tensor, lengths: Tensor) -> Tensor:
        """A draw whose first `lengths` (*batch,) steps are those of value (*batch, T, ...)."""
        drawn = self.expand(continued_shape(self, value)).sample()
        known = first_steps(lengths, self.event_shape[0])
        event_dim = len(self.event_shape) - 1
        return self._masked(torch.where(known[(..., *[None] * event_dim)], value, drawn))

    def log_prob(self, value: Tensor) -> Tensor:
        check_path(value.shape, self.event_shape)
        if self._kept and (known := self._kept.score(value)) is not None:
            return known
        mask = mask_of(self.lengths, self.event_shape[0], self.observed)
        value = filled(value, mask, self.support)
        return total(self.steps.log_prob(value), self.lengths, self.observed)

    @property
    def mean(self) -> Tensor:
        return self._masked(self.steps.mean)

    @property
    def variance(self) -> Tensor:
        return self._masked(self.steps.variance)

    def _masked(self, value: Tensor) -> Tensor:
        mask = mask_of(self.lengths, self.event_shape[0])
        return cleared(value, mask, len(self.event_shape) - 1)
