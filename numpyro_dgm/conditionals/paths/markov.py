"""Markov paths: a transition, which may be any conditional, repeated over time."""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array
from numpyro.distributions import Distribution, constraints

from dgm_core.arguments import check_count, check_instance
from dgm_core.contexts import check_expanded
from dgm_core.paths import check_initial, check_path, controls_of
from numpyro_dgm.conditionals.base import Conditional
from numpyro_dgm.conditionals.paths.base import (
    OfSteps,
    Path,
    batch_of,
    cleared,
    continued_shape,
    draw,
    filled,
    first_steps,
    mask_of,
    total,
)

__all__ = ["Markov"]


class Markov(Path):
    """A Markov chain as one value:  z_1 ~ initial(u_1);  z_t ~ transition(z_{t-1}, u_t).

    The density of a path is one batch, the path shifted by one step; nothing runs through time but
    the draws. The prior of state-space models and of deep Markov models; as a guide it may read an
    encoder's features of each step as u.

    Args:
        transition: a conditional of states (z_dim,) with context_shape=z_dim, or (z_dim,
            (controls,)), with a vector or array of control inputs in each step.
        length: T.
        initial: a conditional of the first state, without context or given the first control
            inputs; None: the transition from `start`, a learned state.

    Shapes:
        context (*batch, T, *controls), none without controls; lengths (*batch,) -> batch_shape
        (*batch,), event_shape (T, z_dim).

    Cost:
        log_prob one call of the transition on all steps at once; a draw T calls, in NumPyro one
        compiled loop. A draw of a flow as transition is scored from what it has left.

    Raises:
        ValueError: if the transition does not map states to states, or initial does not fit.

    Example:
        >>> from numpyro_dgm.conditionals import LinearNormal
        >>> chain = Markov(LinearNormal(2, context_shape=2, key=jax.random.key(0)), 7)
        >>> chain().sample(jax.random.key(1), (5,)).shape
        (5, 7, 2)
    """

    transition: Conditional
    initial: Conditional | None
    start: Array | None
    reparameterized: bool = eqx.field(static=True)

    def __init__(
        self, transition: Conditional, length: int, *, initial: Conditional | None = None
    ) -> None:
        length = check_count("length", length)
        if initial is not None:
            check_instance("initial", initial, Conditional, "a conditional such as Normal(2)")
        what = "a conditional such as DiagonalNormal(2, context_shape=2)"
        check_instance("transition", transition, Conditional, what)
        controls = controls_of(transition.event_shape, transition.context_shape)
        if initial is not None:
            check_initial(initial, transition.event_shape, controls)
        super().__init__(
            length,
            transition.event_shape,
            context_shape=(length, *controls) if controls else 0,
        )
        self.transition, self.initial = transition, initial
        self.start = jnp.zeros(transition.event_shape) if initial is None else None
        known: list[bool] = []

        def probe(state: Array, control: Array) -> None:
            given = control if controls else None
            known.append(self.first(given).has_rsample and self.after(state, given).has_rsample)

        jax.eval_shape(probe, jnp.zeros(transition.event_shape), jnp.zeros(controls))
        self.reparameterized = known[0]

    def first(self, control: Array | None) -> Distribution:
        """The distribution of the first state, given its control inputs (*batch, *controls)."""
        if self.initial is None:
            return self.after(self.start, control)
        return self.initial(control if self.initial.context_shape else None)

    def after(self, state: Any, control: Array | None) -> Distribution:
        """The distribution of the state that follows one, given its control inputs."""
        return self.transition(state if control is None else (state, control))

    def along(self, context: Any, lengths: Array | None) -> "_MarkovDistribution":
        """The distribution given checked control inputs and lengths."""
        batch = batch_of(context, self.context_shape, lengths)
        if context is not None:
            mask = mask_of(lengths, self.length)
            context = cleared(context, mask, len(self.context_shape) - 1)
        return _MarkovDistribution(self, context, lengths, batch)

    def _sizes(self) -> tuple[str, ...]:
        return (repr(self.transition),)


class _MarkovDistribution(OfSteps, Distribution):
    """The paths of a chain given its control inputs."""

    arg_constraints: ClassVar[dict[str, Any]] = {}
    pytree_data_fields = ("chain", "controls", "lengths")

    def __init__(
        self,
        chain: Markov,
        controls: Array | None,
        lengths: Array | None,
        batch_shape: tuple[int, ...],
    ) -> None:
        self.chain, self.controls, self.lengths = chain, controls, lengths
        super().__init__(batch_shape, chain.event_shape, validate_args=False)

    @property
    def has_rsample(self) -> bool:
        return self.chain.reparameterized

    @property
    def support(self) -> constraints.Constraint:
        return constraints.independent(self.chain.first(self._control(0)).support, 1)

    def expand(self, batch_shape: tuple[int, ...]) -> "_MarkovDistribution":
        return _MarkovDistribution(
            self.chain, self.controls, self.lengths, check_expanded(self.batch_shape, batch_shape)
        )

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        return self.sample_with_intermediates(key, sample_shape)[0]

    def sample_with_intermediates(
        self, key: Array, sample_shape: tuple[int, ...] = ()
    ) -> tuple[Array, list[Array]]:
        """Draws, and their log-density where the transition's draws leave theirs."""
        path, scores = self._drawn(key, (*sample_shape, *self.batch_shape))
        return path, [] if scores is None else [total(scores, self.lengths)]

    def continued(self, key: Array, value: Array, lengths: Array) -> Array:
        """A draw whose first `lengths` (*batch,) steps are those of value (*batch, T, z_dim)."""
        shape, known = continued_shape(self, value), first_steps(lengths, self.chain.length)
        return self._drawn(key, shape, cleared(value, known), known)[0]

    def _drawn(
        self,
        key: Array,
        shape: tuple[int, ...],
        value: Array | None = None,
        known: Array | None = None,
    ) -> tuple[Array, Array | None]:
        """Paths (*shape, T, z_dim), with the values of the steps that are known; and the
        log-densities (*shape, T) of the steps where draws leave theirs.
        """
        mask = mask_of(self.lengths, self.chain.length)
        start, *keys = jax.random.split(key, self.chain.length)
        controls = None
        if self.controls is not None:  # time first
            controls = jnp.moveaxis(self.controls, -len(self.chain.context_shape), 0)[1:]
        given: tuple[Array, ...] = ()
        if value is not None and known is not None:
            given = jnp.moveaxis(value, -2, 0), jnp.moveaxis(known[..., None], -2, 0)

        def kept(state: Array, *given: Array) -> Array:
            return jnp.where(given[1], given[0], state) if given else state

        def step(state: Array, given: Any) -> tuple[Array, tuple[Array, Array | None]]:
            key, control, here, *own = given
            fn = self.chain.after(state, control)
            new, left = draw(fn, key)
            score = fn.log_prob(new, left) if left and not own else None
            new = kept(new, *own)
            if here is not None:  # behind the end nothing moves, so that nothing overflows
                new = jnp.where(here[..., None], new, state)
            return new, (new, score)

        fn = self.chain.first(self._control(0)).expand(shape)
        state, left = draw(fn, start)
        score = fn.log_prob(state, left) if left else None
        first, later = [jax.tree.map(lambda x, i=i: x[i], given) for i in (0, slice(1, None))]
        path, scores = kept(state, *first)[None], None if score is None else score[None]
        if keys:
            here = None if mask is None else jnp.moveaxis(mask, -1, 0)[1:]
            each: Any = jnp.stack(keys), controls, here, *later
            now = jax.tree.map(lambda x: x[0], each)
            path = path.astype(jax.eval_shape(step, path[0], now)[0].dtype)
            _, (following, scores) = jax.lax.scan(step, path[0], each)
            path = jnp.concatenate([path, following])
            if scores is not None:
                score = fn.log_prob(state) if score is None else score
                scores = jnp.concatenate([score[None], scores])
        scores = None if scores is None else jnp.moveaxis(scores, 0, -1)
        return cleared(jnp.moveaxis(path, 0, -2), mask), scores

    def log_prob(self, value: Array, intermediates: list[Array] | None = None) -> Array:
        if intermediates:
            return intermediates[0]
        check_path(jnp.shape(value), self.event_shape)
        value = filled(value, mask_of(self.lengths, self.chain.length), self.support)
        start = self.chain.start
        if start is not None:  # one call for all steps
            before = jnp.broadcast_to(start, (*jnp.shape(value)[:-2], 1, *jnp.shape(start)))
            before = jnp.concatenate([before, value[..., :-1, :]], -2)
            steps = self.chain.after(before, self.controls).log_prob(value)
            batch = jnp.broadcast_shapes(steps.shape[:-1], self.batch_shape)
            return total(jnp.broadcast_to(steps, (*batch, steps.shape[-1])), self.lengths)
        first = self.chain.first(self._control(0)).log_prob(value[..., 0, :])
        batch = jnp.broadcast_shapes(first.shape, self.batch_shape)
        steps = jnp.broadcast_to(first, batch)[..., None]
        if self.chain.length > 1:
            later = None if self.controls is None else self.controls[self._steps(slice(1, None))]
            after = self.chain.after(value[..., :-1, :], later).log_prob(value[..., 1:, :])
            batch = jnp.broadcast_shapes(batch, after.shape[:-1])
            after = jnp.broadcast_to(after, (*batch, after.shape[-1]))
            steps = jnp.concatenate([jnp.broadcast_to(steps, (*batch, 1)), after], -1)
        return total(steps, self.lengths)

    def _control(self, t: int) -> Array | None:
        return None if self.controls is None else self.controls[self._steps(t)]

    def _steps(self, index: Any) -> Any:
        """The place of some steps in the control inputs."""
        return (..., index, *[slice(None)] * (len(self.chain.context_shape) - 1))
