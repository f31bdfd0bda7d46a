"""Hidden Markov models, the states summed out."""

from typing import Any, ClassVar, NamedTuple

import torch
from pyro import distributions as dist
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor, nn

from dgm_core.arguments import check_count, check_instance
from dgm_core.contexts import check_expanded
from dgm_core.paths import check_path, num_states_of
from pyro_dgm.conditionals.base import Conditional
from pyro_dgm.conditionals.paths.base import (
    ObservedPath,
    OfSteps,
    batch_of,
    cleared,
    continued_shape,
    filled,
    first_steps,
    known,
    mask_of,
)

__all__ = ["HiddenMarkov"]


class FilteredStates(NamedTuple):
    """What the filter of a hidden Markov model leaves of each step: (*batch, T) and (*batch, T,
    num_states).
    """

    log_probs: Tensor  # log p(x_t | x_1, ..., x_{t-1})
    log_odds: Tensor  # log p(s_t | x_1, ..., x_t)


class HiddenMarkov(ObservedPath):
    """Sequences of a hidden Markov model:  s_1 ~ Categorical(pi);  s_t ~ Categorical(A[s_{t-1}]);
    x_t ~ emission(s_t),  with all paths of states s summed out.

    (Pyro's own `DiscreteHMM` takes tensors and no lengths; NumPyro has none.)

    Args:
        emission: of x_t given the state, any conditional with context_shape=Labels(num_states).
        length: T.

    Attributes:
        initial: (num_states,), the logits of pi.
        transition: (num_states, num_states), the logits of A, row by row.

    Shapes:
        no context; lengths (*batch,); observed (*batch, T), false for missing steps -> event_shape
        (T, *event_shape of x_t).

    Cost:
        log_prob T num_states^2.

    Raises:
        ValueError: if the emission is not given a label.

    References:
        Rabiner (1989), Proc. IEEE 77.

    Example:
        >>> from pyro_dgm.conditionals import Categorical, Labels
        >>> HiddenMarkov(Categorical(1, 3, context_shape=Labels(2)), 7)().sample((5,)).shape
        torch.Size([5, 7, 1])
    """

    def __init__(self, emission: Conditional, length: int) -> None:
        length = check_count("length", length)
        what = "a conditional with context_shape=Labels(num_states)"
        check_instance("emission", emission, Conditional, what)
        num_states = num_states_of(emission)
        super().__init__(length, emission.event_shape)
        self.emission, self.num_states = emission, num_states
        self.initial = nn.Parameter(torch.zeros(num_states))
        self.transition = nn.Parameter(torch.zeros(num_states, num_states))

    def along(
        self, context: Any, lengths: Tensor | None, observed: Tensor | None = None
    ) -> "_HiddenMarkovDistribution":
        """The distribution given checked lengths and mask."""
        batch = batch_of(None, (), lengths, observed)
        return _HiddenMarkovDistribution(self, lengths, observed, batch)

    def filtered(
        self, x: Tensor, lengths: Any = None, observed: Tensor | None = None
    ) -> FilteredStates:
        """log p(x_t | x_1, ..., x_{t-1}) and log p(s_t | x_1, ..., x_t), for x (*batch, T, ...);
        lengths and observed as in a call of the conditional.
        """
        _, lengths, observed = self.checked(None, lengths, observed)
        forward = self.forward_pass(x, lengths, observed)
        totals = forward.logsumexp(-1)
        before = torch.cat([torch.zeros_like(totals[..., :1]), totals[..., :-1]], -1)
        log_probs = torch.where(before.isinf(), before, totals - before)
        mask = mask_of(lengths, self.length, observed)
        return FilteredStates(cleared(log_probs, mask, 0), forward - totals[..., None])

    def forward_pass(self, x: Tensor, lengths: Tensor | None, observed: Tensor | None) -> Tensor:
        """log p(x_1, ..., x_t, s_t) (*batch, T, num_states)."""
        check_path(x.shape, self.event_shape)
        emissions = self.emission(torch.arange(self.num_states, device=self.initial.device))
        mask = mask_of(lengths, self.length, observed)
        x = filled(x, mask, constraints.independent(emissions.support, 1))
        scores = emissions.log_prob(x.unsqueeze(-len(self.event_shape)))  # (*batch, T, num_states)
        scores = scores if mask is None else cleared(scores, mask)
        transition = self.transition.log_softmax(-1)
        found = [self.initial.log_softmax(-1) + scores[..., 0, :]]
        for t in range(1, self.length):  # a step with scores of zero changes no sum
            found.append((found[-1][..., :, None] + transition).logsumexp(-2) + scores[..., t, :])
        return torch.stack(found, -2)

    def _sizes(self) -> tuple[str, ...]:
        return (repr(self.emission),)


class _HiddenMarkovDistribution(OfSteps, TorchDistribution):
    """The paths x of a hidden Markov model."""

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    has_rsample = False

    def __init__(
        self,
        model: HiddenMarkov,
        lengths: Tensor | None,
        observed: Tensor | None,
        batch_shape: torch.Size,
    ) -> None:
        self.model, self.lengths, self.observed = model, lengths, observed
        states = torch.arange(model.num_states, device=model.initial.device)
        self.emissions = model.emission(states)  # of every state (num_states,)
        super().__init__(batch_shape, torch.Size(model.event_shape), validate_args=False)

    @constraints.dependent_property
    def support(self) -> constraints.Constraint:
        return constraints.independent(self.emissions.support, 1)

    def expand(
        self, batch_shape: torch.Size, _instance: None = None
    ) -> "_HiddenMarkovDistribution":
        shape = torch.Size(check_expanded(self.batch_shape, batch_shape))
        return _HiddenMarkovDistribution(self.model, self.lengths, self.observed, shape)

    def sample(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> Tensor:
        with torch.no_grad():
            return self._emitted(self._states(torch.Size(sample_shape) + self.batch_shape))

    def continued(self, value: Tensor, lengths: Tensor) -> Tensor:
        """A draw whose first `lengths` (*batch,) steps are those of value (*batch, T, ...), its
        steps that are missing left out.
        """
        shape, event_dim = continued_shape(self, value), len(self.event_shape) - 1
        seen = first_steps(lengths, self.model.length)
        with torch.no_grad():
            odds = self.model.filtered(value, lengths, self.observed).log_odds
            ends = dist.Categorical(logits=odds).expand((*shape, self.model.length)).sample()
            x = self._emitted(self._states(shape, ends, seen))
            return torch.where(seen[(..., *[None] * event_dim)], value, x)

    def _states(
        self, shape: torch.Size, value: Tensor | None = None, seen: Tensor | None = None
    ) -> Tensor:
        """States (*shape, T), with the values of the steps that are seen."""
        states: list[Tensor] = []
        for t in range(self.model.length):
            logits = self.model.transition[states[-1]] if t else self.model.initial
            state = dist.Categorical(logits=logits).expand(shape).sample()
            if value is not None and seen is not None:
                state = torch.where(seen[..., t], value[..., t], state)
            states.append(state)
        return torch.stack(states, -1)

    def _emitted(self, states: Tensor) -> Tensor:
        return cleared(self.model.emission(states).sample(), self._mask, len(self.event_shape) - 1)

    def log_prob(self, value: Tensor) -> Tensor:
        forward = self.model.forward_pass(value, self.lengths, self.observed)
        log_prob = known(forward[..., -1, :].logsumexp(-1), self.lengths, self.model.length)
        return log_prob.expand(torch.broadcast_shapes(log_prob.shape, self.batch_shape))

    @property
    def mean(self) -> Tensor:
        probs, means = self.model.initial.softmax(-1), []
        for _ in range(self.model.length):
            means.append(torch.tensordot(probs, self.emissions.mean, 1))
            probs = probs @ self.model.transition.softmax(-1)
        mean = torch.stack(means).expand(self.batch_shape + self.event_shape)
        return cleared(mean, self._mask, len(self.event_shape) - 1)

    @property
    def _mask(self) -> Tensor | None:
        return mask_of(self.lengths, self.model.length)
