"""Walking through the steps of a sequence: one after the other, from state to state."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from numpyro.distributions import constraints

from dgm_core.paths import broadcast
from dgm_core.steps import (
    Statement,
    check_impute,
    check_same_statements,
    check_sequences,
    check_state,
    no_mean,
)
from numpyro_dgm.conditionals.paths.base import cleared, draw, filled, mask_of
from numpyro_dgm.sequences.statements import Answered, statements_of

__all__: list[str] = []  # for the package, not for users


@dataclass(frozen=True)
class Steps:
    """A step with what it runs on: the first state, data and inputs of all steps, and which of them
    there are (`lengths`), are `observed`.

    All else as in `unroll`;  statements, after: of the first step, and the state that it returns;
    partial: the latent statements that, like data, are given where `observed` and drawn elsewhere.
    """

    step: Callable
    initial: Any
    x: Any
    inputs: Any
    length: int
    event_dim: int
    lengths: Array | None
    observed: Array | None
    impute: str | None
    statements: tuple[Statement, ...] = ()
    after: Any = None
    partial: frozenset[str] = frozenset()

    @property
    def data(self) -> list[Array]:
        """The arrays of x, in their order."""
        return jax.tree.leaves(self.x)

    @property
    def batch(self) -> tuple[int, ...]:
        """The batch shape of the first step, and of all that the steps are given."""
        own = self.event_dim
        shapes = [s.batch_shape for s in self.statements]
        shapes += [x.shape[: x.ndim - 1 - own] for x in jax.tree.leaves((self.x, self.inputs))]
        shapes += [x.shape[: x.ndim - own] for x in jax.tree.leaves((self.initial, self.after))]
        lengths = None if self.lengths is None else self.lengths.shape
        observed = None if self.observed is None else self.observed.shape[:-1]
        return broadcast(jnp.broadcast_shapes(*shapes), lengths=lengths, observed=observed)

    def check(self) -> None:
        """ValueError unless lengths and masks are those of the sequences."""
        tuple(self.batch)

    @property
    def random(self) -> Array | None:
        """Which steps there are (*batch, length); None for all."""
        return mask_of(self.lengths, self.length)

    @property
    def known(self) -> Array | None:
        """Which steps there are, and are observed (*batch, length); None for all."""
        return mask_of(self.lengths, self.length, self.observed)

    def with_statements(self) -> "Steps":
        """The same, knowing the statements of the step."""
        cleared_x = jax.tree.map(lambda leaf: cleared(leaf, self.known, self.event_dim), self.x)
        inputs, x = (
            jax.tree.map(lambda leaf: leaf[0], self.sliced(t))
            for t in (self.seen_inputs, cleared_x)
        )
        key = jax.random.key(0)  # for values that nobody sees
        found, after = statements_of(
            self.step,
            self.wide(self.initial, self.batch),
            inputs,
            x,
            jax.tree.leaves(x),
            self.batch,
            key,
        )
        check_state(forms_of(self.initial), forms_of(after), self.event_dim)
        check_impute(self.observed is not None, found, self.impute)
        return replace(self, statements=found, after=after)

    @property
    def seen_inputs(self) -> Any:
        """The inputs, without what stands in the padding."""
        return jax.tree.map(lambda leaf: cleared(leaf, self.random, self.event_dim), self.inputs)

    def sliced(self, tree: Any) -> Any:
        """Sequences, time first."""
        return jax.tree.map(lambda x: jnp.moveaxis(x, x.ndim - 1 - self.event_dim, 0), tree)

    def slices(self, given: Mapping[str, Array | None]) -> dict[str, Any]:
        """What each step is given, time first: inputs, x as it sees it, the values of its
        statements and which sequences have it, observed.
        """
        dims = {s.name: len(s.event_shape) for s in self.statements}
        masks = {"observed": self.observed, "random": self.random}
        return {
            "inputs": self.sliced(self.seen_inputs),
            "x": self.sliced(self.prepared(given)),
            "values": {
                name: None if v is None else jnp.moveaxis(v, v.ndim - 1 - dims[name], 0)
                for name, v in given.items()
            },
            **{n: None if mask is None else jnp.moveaxis(mask, -1, 0) for n, mask in masks.items()},
        }

    def prepared(self, given: Mapping[str, Array | None]) -> Any:
        """x as the steps see it: None where a statement draws it, NaN where it draws some of it,
        zeros where nobody does.
        """
        places = iter(range(len(self.data)))
        owners = {s.leaf: s for s in self.statements if s.leaf is not None}

        def seen(leaf: Array) -> Array | None:
            owner = owners.get(next(places))
            if owner is None:
                return cleared(leaf, self.known, self.event_dim)
            x = given[owner.name]
            if x is None or self.observed is None or not jnp.issubdtype(x.dtype, jnp.inexact):
                return x
            return jnp.where(self.observed[(..., *[None] * self.event_dim)], x, jnp.nan)

        return jax.tree.map(seen, self.x)

    def given(self, values: Mapping[str, Array | None]) -> dict[str, Array | None]:
        """Paths of values, with something in the support where nothing is random, or observed."""
        found: dict[str, Array | None] = {}
        for statement in self.statements:
            value = values[statement.name]
            mask = self.known if self.has_gaps(statement) else self.random
            if value is not None:
                value = filled(jnp.asarray(value), mask, one_more(statement.support))
            found[statement.name] = value
        return found

    def has_gaps(self, statement: Statement) -> bool:
        """Whether values of a statement may be missing."""
        return statement.leaf is not None or statement.name in self.partial

    def wide(self, state: Any, batch: tuple[int, ...]) -> Any:
        """A state with an entry for each element of the batch."""

        def widened(leaf: Array) -> Array:
            return jnp.broadcast_to(leaf, (*batch, *leaf.shape[leaf.ndim - self.event_dim :]))

        return jax.tree.map(widened, state)

    def one(
        self,
        state: Any,
        now: Mapping[str, Any],
        shapes: Mapping[str, tuple[int, ...]],
        key: Array,
    ) -> "Step":
        """One step from a state, given an entry of `slices`: statements without a value draw one,
        in these batch shapes at least.
        """
        result, values, seen, here = Step(), now["values"], now["observed"], now["random"]
        with_gaps = [s.name for s in self.statements if self.has_gaps(s)]

        def answer(name: str, fn: Any, data: Any, infer: dict[str, Any]) -> Any:
            value, own = values.get(name), jax.random.fold_in(key, len(result.fns))
            result.fns[name] = fn
            if value is None:
                value, score = drawn(fn, shapes.get(name, ()), own)
            elif seen is not None and name in with_gaps:
                score = jnp.where(seen, fn.log_prob(value), 0.0)
                gap = seen[(..., *[None] * len(fn.event_shape))]
                value = jnp.where(gap, value, self._imputed(name, fn, value, own))
            else:
                score = fn.log_prob(value)
            result.values[name], result.scores[name] = value, score
            return value

        answered = Answered(answer, key)
        with answered:
            after = self.step(state, now["inputs"], now["x"])
        check_same_statements([s.name for s in self.statements], answered.names)
        check_state(forms_of(state), forms_of(after), self.event_dim)
        result.state = after
        if here is not None:
            kept = here[(..., *[None] * self.event_dim)]
            result.state = jax.tree.map(lambda new, old: jnp.where(kept, new, old), after, state)
            result.scores = {name: cleared(s, here, 0) for name, s in result.scores.items()}
        return result

    def _imputed(self, name: str, fn: Any, like: Array, key: Array) -> Array:
        if self.impute == "mean":
            try:
                return fn.mean
            except NotImplementedError as error:
                raise no_mean(name, error) from error
        return drawn(fn, like.shape[: like.ndim - len(fn.event_shape)], key)[0]


class Step:
    """What a step gives: values, log-densities (*batch,) and distributions by name, and the
    state.
    """

    def __init__(self) -> None:
        self.values: dict[str, Array] = {}
        self.scores: dict[str, Array] = {}
        self.fns: dict[str, Any] = {}
        self.state: Any = None


@dataclass(frozen=True)
class Walk:
    """All steps: paths of values (*batch, length, *event), log-densities (*batch, length) and, if
    asked for, a moment of the steps by name; and the state behind the last.
    """

    given: Mapping[str, Array | None]
    values: dict[str, Array]
    scores: dict[str, Array]
    moments: dict[str, Array]
    state: Any


def walk(
    steps: Steps,
    values: Mapping[str, Array | None],
    shapes: Mapping[str, tuple[int, ...]],
    key: Array,
    moment: tuple[str, str] | None = None,
) -> Walk:
    """All steps at these values, drawing those that are None, in these batch shapes; with the
    moment of a name ("x", "mean").
    """
    given = steps.given(values)
    dims = {s.name: len(s.event_shape) for s in steps.statements}
    known = {n: v.shape[: v.ndim - 1 - dims[n]] for n, v in given.items() if v is not None}
    batch = jnp.broadcast_shapes(steps.batch, *known.values(), *shapes.values())
    shapes = {name: batch for name, value in given.items() if value is None}

    def body(state: Any, now: tuple[Any, Array]) -> tuple[Any, Any]:
        result = steps.one(state, now[0], shapes, now[1])
        named = [] if moment is None else [moment]
        moments = {name: getattr(result.fns[name], what) for name, what in named}
        return steps.wide(result.state, batch), (result.values, result.scores, moments)

    keys = jax.random.split(key, steps.length)
    initial = steps.wide(steps.initial, batch)
    state, found = jax.lax.scan(body, initial, (steps.slices(given), keys))
    paths, scores, moments = found
    mask = steps.random
    return Walk(
        dict(values),
        {n: cleared(behind(path, dims[n]), mask, dims[n]) for n, path in paths.items()},
        {n: behind(score, 0) for n, score in scores.items()},
        {n: cleared(behind(part, dims[n]), mask, dims[n]) for n, part in moments.items()},
        state,
    )


def behind(x: Array, event_dim: int) -> Array:
    """Arrays (length, *batch, *event) of all steps as (*batch, length, *event)."""
    return jnp.moveaxis(x, 0, x.ndim - 1 - event_dim)


def drawn(fn: Any, batch: tuple[int, ...], key: Array) -> tuple[Array, Array]:
    """A draw, in this batch shape at least, with its log-density; with a gradient if there is
    one.
    """
    fn = fn.expand(jnp.broadcast_shapes(fn.batch_shape, batch))
    value, left = draw(fn, key)
    return value, fn.log_prob(value, left) if left else fn.log_prob(value)


def forms_of(tree: Any) -> list[tuple[tuple[int, ...], str]]:
    """Shape and dtype of each array of a state."""
    return [(jnp.shape(x), str(jnp.result_type(x))) for x in jax.tree.leaves(tree)]


def one_more(support: Any) -> Any:
    """The support of a path of values."""
    return constraints.independent(support, 1)


def length_of(trees: Mapping[str, Any], event_dim: int, length: int | None) -> int | None:
    """The number of steps that some trees of sequences have, by name."""
    for name, tree in trees.items():
        for leaf in jax.tree.leaves(tree):
            length = check_sequences(name, jnp.shape(leaf), event_dim, length)
    return length
