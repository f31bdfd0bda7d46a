"""Hidden Markov models, the states summed out."""

from typing import Any, ClassVar

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
    filled,
    known,
    mask_of,
)

__all__ = ["HiddenMarkov"]


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
        shape = torch.Size(sample_shape) + self.batch_shape
        with torch.no_grad():
            state = dist.Categorical(logits=self.model.initial).expand(shape).sample()
            states = [state]
            for _ in range(1, self.model.length):
                state = dist.Categorical(logits=self.model.transition[state]).sample()
                states.append(state)
            x = self.model.emission(torch.stack(states, -1)).sample()
            return cleared(x, self._mask, len(self.event_shape) - 1)

    def log_prob(self, value: Tensor) -> Tensor:
        check_path(value.shape, self.event_shape)
        length, event_dim = self.model.length, len(self.event_shape) - 1
        mask = mask_of(self.lengths, length, self.observed)
        value = filled(value, mask, self.support).unsqueeze(-1 - event_dim)
        scores = self.emissions.log_prob(value)  # (*batch, length, num_states)
        if mask is not None:
            scores = cleared(scores, mask)
        forward = self.model.initial.log_softmax(-1) + scores[..., 0, :]
        transition = self.model.transition.log_softmax(-1)
        for t in range(1, length):  # a step with scores of zero changes no sum
            forward = (forward[..., :, None] + transition).logsumexp(-2) + scores[..., t, :]
        log_prob = known(forward.logsumexp(-1), self.lengths, length)
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
