"""Hidden Markov models, the states summed out."""

from typing import Any, ClassVar

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
        start, emitted, *keys = jax.random.split(key, self.model.length + 1)
        first = dist.Categorical(logits=self.model.initial).expand(
            (*sample_shape, *self.batch_shape)
        )
        states = [first.sample(start)]
        if keys:

            def step(state: Array, key: Array) -> tuple[Array, Array]:
                state = dist.Categorical(logits=self.model.transition[state]).sample(key)
                return state, state

            states.append(jax.lax.scan(step, states[0], jnp.stack(keys))[1])
        path = jnp.moveaxis(jnp.concatenate([states[0][None], *states[1:]]), 0, -1)
        x = self.model.emission(path).sample(emitted)
        return jax.lax.stop_gradient(cleared(x, self._mask, len(self.event_shape) - 1))

    def log_prob(self, value: Array) -> Array:
        check_path(jnp.shape(value), self.event_shape)
        length, event_dim = self.model.length, len(self.event_shape) - 1
        mask = mask_of(self.lengths, length, self.observed)
        value = jnp.expand_dims(filled(value, mask, self.support), -1 - event_dim)
        scores = self.emissions.log_prob(value)  # (*batch, length, num_states)
        if mask is not None:
            scores = cleared(scores, mask)
        transition = jax.nn.log_softmax(self.model.transition)

        def step(forward: Array, score: Array) -> tuple[Array, None]:
            return logsumexp(forward[..., :, None] + transition, -2) + score, None

        forward = jax.nn.log_softmax(self.model.initial) + scores[..., 0, :]
        # a step with scores of zero changes no sum
        forward, _ = jax.lax.scan(step, forward, jnp.moveaxis(scores, -2, 0)[1:])
        log_prob = known(logsumexp(forward, -1), self.lengths, length)
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
