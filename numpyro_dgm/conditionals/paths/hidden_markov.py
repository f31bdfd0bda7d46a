"""Hidden Markov models, the states summed out."""

from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array
from jax.scipy.special import logsumexp
from numpyro.distributions import Distribution, constraints

from dgm_core.arguments import check_count, check_instance
from dgm_core.contexts import check_expanded
from dgm_core.paths import check_path, num_states_of
from numpyro_dgm.conditionals.base import Conditional
from numpyro_dgm.conditionals.paths.base import (
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

    log_probs: Array  # log p(x_t | x_1, ..., x_{t-1})
    log_odds: Array  # log p(s_t | x_1, ..., x_t)


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
        >>> from numpyro_dgm.conditionals import Categorical, Labels
        >>> emission = Categorical(1, 3, context_shape=Labels(2), key=jax.random.key(0))
        >>> HiddenMarkov(emission, 7)().sample(jax.random.key(1), (5,)).shape
        (5, 7, 1)
    """

    emission: Conditional
    num_states: int = eqx.field(static=True)
    initial: Array
    transition: Array

    def __init__(self, emission: Conditional, length: int) -> None:
        length = check_count("length", length)
        what = "a conditional with context_shape=Labels(num_states)"
        check_instance("emission", emission, Conditional, what)
        num_states = num_states_of(emission)
        super().__init__(length, emission.event_shape)
        self.emission, self.num_states = emission, num_states
        self.initial = jnp.zeros(num_states)
        self.transition = jnp.zeros((num_states, num_states))

    def along(
        self, context: Any, lengths: Array | None, observed: Array | None = None
    ) -> "_HiddenMarkovDistribution":
        """The distribution given checked lengths and mask."""
        batch = batch_of(None, (), lengths, observed)
        return _HiddenMarkovDistribution(self, lengths, observed, batch)

    def filtered(
        self, x: Array, lengths: Any = None, observed: Array | None = None
    ) -> FilteredStates:
        """log p(x_t | x_1, ..., x_{t-1}) and log p(s_t | x_1, ..., x_t), for x (*batch, T, ...);
        lengths and observed as in a call of the conditional.
        """
        _, lengths, observed = self.checked(None, lengths, observed)
        forward = self.forward_pass(x, lengths, observed)
        totals = logsumexp(forward, -1)
        before = jnp.concatenate([jnp.zeros_like(totals[..., :1]), totals[..., :-1]], -1)
        log_probs = jnp.where(jnp.isinf(before), before, totals - before)
        mask = mask_of(lengths, self.length, observed)
        return FilteredStates(cleared(log_probs, mask, 0), forward - totals[..., None])

    def forward_pass(self, x: Array, lengths: Array | None, observed: Array | None) -> Array:
        """log p(x_1, ..., x_t, s_t) (*batch, T, num_states)."""
        check_path(jnp.shape(x), self.event_shape)
        emissions = self.emission(jnp.arange(self.num_states))
        mask = mask_of(lengths, self.length, observed)
        x = filled(x, mask, constraints.independent(emissions.support, 1))
        x = jnp.expand_dims(x, -len(self.event_shape))
        scores = emissions.log_prob(x)  # (*batch, T, num_states)
        scores = scores if mask is None else cleared(scores, mask)
        transition = jax.nn.log_softmax(self.transition)

        def step(forward: Array, score: Array) -> tuple[Array, Array]:
            # a step with scores of zero changes no sum
            forward = logsumexp(forward[..., :, None] + transition, -2) + score
            return forward, forward

        forward = jax.nn.log_softmax(self.initial) + scores[..., 0, :]
        _, later = jax.lax.scan(step, forward, jnp.moveaxis(scores, -2, 0)[1:])
        return jnp.moveaxis(jnp.concatenate([forward[None], later]), 0, -2)

    def _sizes(self) -> tuple[str, ...]:
        return (repr(self.emission),)


class _HiddenMarkovDistribution(OfSteps, Distribution):
    """The paths x of a hidden Markov model."""

    arg_constraints: ClassVar[dict[str, Any]] = {}
    pytree_data_fields = ("model", "lengths", "observed", "emissions")
    has_rsample = False

    def __init__(
        self,
        model: HiddenMarkov,
        lengths: Array | None,
        observed: Array | None,
        batch_shape: tuple[int, ...],
    ) -> None:
        self.model, self.lengths, self.observed = model, lengths, observed
        self.emissions = model.emission(
            jnp.arange(model.num_states)
        )  # of every state (num_states,)
        super().__init__(batch_shape, model.event_shape, validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        return constraints.independent(self.emissions.support, 1)

    def expand(self, batch_shape: tuple[int, ...]) -> "_HiddenMarkovDistribution":
        return _HiddenMarkovDistribution(
            self.model, self.lengths, self.observed, check_expanded(self.batch_shape, batch_shape)
        )

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        keys = jax.random.split(key)
        states = self._states(keys[0], (*sample_shape, *self.batch_shape))
        return jax.lax.stop_gradient(self._emitted(keys[1], states))

    def continued(self, key: Array, value: Array, lengths: Array) -> Array:
        """A draw whose first `lengths` (*batch,) steps are those of value (*batch, T, ...), its
        steps that are missing left out.
        """
        shape, event_dim = continued_shape(self, value), len(self.event_shape) - 1
        seen, keys = first_steps(lengths, self.model.length), jax.random.split(key, 3)
        odds = self.model.filtered(value, lengths, self.observed).log_odds
        ends = dist.Categorical(logits=odds).expand((*shape, self.model.length)).sample(keys[0])
        x = self._emitted(keys[1], self._states(keys[2], shape, ends, seen))
        return jnp.where(seen[(..., *[None] * event_dim)], value, x)

    def _states(
        self,
        key: Array,
        shape: tuple[int, ...],
        value: Array | None = None,
        seen: Array | None = None,
    ) -> Array:
        """States (*shape, T), with the values of the steps that are seen."""

        def step(state: Array, given: Any) -> tuple[Array, Array]:
            key, t = given
            logits = jnp.where(t, self.model.transition[state], self.model.initial)
            state = dist.Categorical(logits=logits).sample(key)
            if value is not None and seen is not None:
                state = jnp.where(seen[..., t], value[..., t], state)
            return state, state

        steps = jax.random.split(key, self.model.length), jnp.arange(self.model.length)
        first = jnp.zeros(shape, jnp.result_type(int))
        return jnp.moveaxis(jax.lax.scan(step, first, steps)[1], 0, -1)

    def _emitted(self, key: Array, states: Array) -> Array:
        x = self.model.emission(states).sample(key)
        return cleared(x, self._mask, len(self.event_shape) - 1)

    def log_prob(self, value: Array) -> Array:
        forward = self.model.forward_pass(value, self.lengths, self.observed)
        log_prob = known(logsumexp(forward[..., -1, :], -1), self.lengths, self.model.length)
        return jnp.broadcast_to(log_prob, jnp.broadcast_shapes(log_prob.shape, self.batch_shape))

    @property
    def mean(self) -> Array:
        probs, means = jax.nn.softmax(self.model.initial), []
        for _ in range(self.model.length):
            means.append(jnp.tensordot(probs, self.emissions.mean, 1))
            probs = probs @ jax.nn.softmax(self.model.transition)
        mean = jnp.broadcast_to(jnp.stack(means), self.batch_shape + self.event_shape)
        return cleared(mean, self._mask, len(self.event_shape) - 1)

    @property
    def _mask(self) -> Array | None:
        return mask_of(self.lengths, self.model.length)
