"""Walking through the steps of a sequence: one after the other, from state to state."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from dgm_core.paths import broadcast
from dgm_core.steps import (
    Statement,
    check_impute,
    check_same_statements,
    check_sequences,
    check_state,
    no_mean,
)
from pyro_dgm.compat import tree_map
from pyro_dgm.conditionals.paths.base import cleared, draw, filled, mask_of
from pyro_dgm.joints.reading import seen_value
from pyro_dgm.nn.states import is_compared
from pyro_dgm.sequences.statements import Answered, statements_of

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
    lengths: Tensor | None
    observed: Tensor | None
    impute: str | None
    statements: tuple[Statement, ...] = ()
    after: Any = None
    partial: frozenset[str] = frozenset()

    @property
    def data(self) -> list[Tensor]:
        """The arrays of x, in their order."""
        return leaves_of(self.x)

    @property
    def batch(self) -> torch.Size:
        """The batch shape of the first step, and of all that the steps are given."""
        own = self.event_dim
        shapes = [torch.Size(s.batch_shape) for s in self.statements]
        shapes += [x.shape[: x.ndim - 1 - own] for x in leaves_of((self.x, self.inputs))]
        shapes += [x.shape[: x.ndim - own] for x in leaves_of((self.initial, self.after))]
        lengths = None if self.lengths is None else self.lengths.shape
        observed = None if self.observed is None else self.observed.shape[:-1]
        return torch.Size(
            broadcast(torch.broadcast_shapes(*shapes), lengths=lengths, observed=observed)
        )

    def check(self) -> None:
        """ValueError unless lengths and masks are those of the sequences."""
        tuple(self.batch)

    @property
    def random(self) -> Tensor | None:
        """Which steps there are (*batch, length); None for all."""
        return mask_of(self.lengths, self.length)

    def with_statements(self) -> "Steps":
        """The same, knowing the statements of the step; what it has not is left out of x."""
        with torch.no_grad():
            x = tree_map(lambda leaf: self._cleared(leaf, self.known), self.x)
            inputs, x = self.sliced(self.seen_inputs)[0], self.sliced(x)[0]
            found, after = statements_of(
                self.step, self.wide(self.initial, self.batch), inputs, x, leaves_of(x), self.batch
            )
        check_state(forms_of(self.initial), forms_of(after), self.event_dim)
        check_impute(self.observed is not None, found, self.impute)
        return replace(self, statements=found, after=after)

    def _cleared(self, leaf: Any, mask: Tensor | None) -> Any:
        return leaf if leaf is None else cleared(leaf, mask, self.event_dim)

    @property
    def seen_inputs(self) -> Any:
        """The inputs, without what stands in the padding."""
        return tree_map(lambda leaf: self._cleared(leaf, self.random), self.inputs)

    def sliced(self, tree: Any) -> list[Any]:
        """The steps of sequences."""
        parts = tree_map(lambda x: x if x is None else Parts(x.unbind(-1 - self.event_dim)), tree)
        return [tree_map(partial(part_of, t=t), parts) for t in range(self.length)]

    def slices(self, given: Mapping[str, Tensor | None]) -> list[dict[str, Any]]:
        """What each step is given: inputs, x as it sees it, the values of its statements and which
        sequences have it, observed.
        """
        none: Any = [None] * self.length
        dims = {s.name: len(s.event_shape) for s in self.statements}
        values = {n: none if v is None else v.unbind(-1 - dims[n]) for n, v in given.items()}
        seen = none if self.observed is None else self.observed.unbind(-1)
        random = none if self.random is None else self.random.unbind(-1)
        inputs, x = self.sliced(self.seen_inputs), self.sliced(self.prepared(given))
        return [
            {
                "inputs": inputs[t],
                "x": x[t],
                "values": {name: path[t] for name, path in values.items()},
                "observed": seen[t],
                "random": random[t],
            }
            for t in range(self.length)
        ]

    def prepared(self, given: Mapping[str, Tensor | None]) -> Any:
        """x as the steps see it: None where a statement draws it, NaN where it draws some of it,
        zeros where nobody does.
        """
        places = iter(range(len(self.data)))
        owners = {s.leaf: s for s in self.statements if s.leaf is not None}

        def seen(leaf: Any) -> Any:
            if leaf is None:
                return None
            owner = owners.get(next(places))
            if owner is None:
                return self._cleared(leaf, self.known)
            x = given[owner.name]
            if x is None or self.observed is None or not x.is_floating_point():
                return x
            return torch.where(self.observed[(..., *[None] * self.event_dim)], x, torch.nan)

        return tree_map(seen, self.x)

    @property
    def known(self) -> Tensor | None:
        return mask_of(self.lengths, self.length, self.observed)

    def given(self, values: Mapping[str, Tensor | None]) -> dict[str, Tensor | None]:
        """Paths of values, with something in the support where nothing is random, or observed."""
        found: dict[str, Tensor | None] = {}
        for statement in self.statements:
            value = values[statement.name]
            mask = self.known if self.has_gaps(statement) else self.random
            if value is not None:
                value = filled(value, mask, one_more(statement.support))
            found[statement.name] = value
        return found

    def has_gaps(self, statement: Statement) -> bool:
        """Whether values of a statement may be missing."""
        return statement.leaf is not None or statement.name in self.partial

    def wide(self, state: Any, batch: tuple[int, ...]) -> Any:
        """A state with an entry for each element of the batch."""

        def widened(leaf: Any) -> Any:
            return leaf.expand((*batch, *leaf.shape[leaf.ndim - self.event_dim :]))

        return tree_map(widened, state)

    def one(
        self,
        state: Any,
        now: Mapping[str, Any],
        shapes: Mapping[str, tuple[int, ...]],
    ) -> "Step":
        """One step from a state, given an entry of `slices`: statements without a value draw one,
        in these batch shapes at least.
        """
        result, values, seen, here = Step(), now["values"], now["observed"], now["random"]
        with_gaps = [s.name for s in self.statements if self.has_gaps(s)]

        def answer(name: str, fn: Any, data: Any, infer: dict[str, Any]) -> Any:
            value, batch = values.get(name), shapes.get(name, ())
            result.fns[name] = fn
            if value is None:
                fn = fn.expand(torch.broadcast_shapes(fn.batch_shape, batch))
                value = draw(fn)
                score = fn.log_prob(value)
            elif seen is not None and name in with_gaps:
                score = fn.log_prob(visible(value, fn))
                score = torch.where(seen, score, torch.zeros_like(score))
                gap = seen[(..., *[None] * len(fn.event_shape))]
                value = torch.where(gap, value, self._imputed(name, fn, value))
            else:
                score = fn.log_prob(visible(value, fn))
            result.values[name], result.scores[name] = value, score
            return value

        answered = Answered(answer)
        with answered:
            after = self.step(state, now["inputs"], now["x"])
        check_same_statements([s.name for s in self.statements], answered.names)
        check_state(forms_of(state), forms_of(after), self.event_dim)
        result.state = after
        if here is not None:
            kept = here[(..., *[None] * self.event_dim)]
            result.state = tree_map(lambda new, old: torch.where(kept, new, old), after, state)
            result.scores = {name: cleared(s, here, 0) for name, s in result.scores.items()}
        return result

    def _imputed(self, name: str, fn: Any, like: Tensor) -> Tensor:
        if self.impute == "mean":
            try:
                return fn.mean
            except NotImplementedError as error:
                raise no_mean(name, error) from error
        if is_compared():
            return like
        batch = like.shape[: like.ndim - len(fn.event_shape)]
        return draw(fn.expand(torch.broadcast_shapes(fn.batch_shape, batch)))


def visible(value: Tensor, fn: Any) -> Tensor:
    """A value without what lies beneath a mask of its distribution."""
    return seen_value({"fn": fn, "value": value, "is_observed": True, "mask": None})


class Step:
    """What a step gives: values, log-densities (*batch,) and distributions by name, and the
    state.
    """

    def __init__(self) -> None:
        self.values: dict[str, Tensor] = {}
        self.scores: dict[str, Tensor] = {}
        self.fns: dict[str, Any] = {}
        self.state: Any = None


@dataclass(frozen=True)
class Walk:
    """All steps: paths of values (*batch, length, *event), log-densities (*batch, length) and
    the distributions of the steps by name; and the state behind the last.
    """

    given: Mapping[str, Tensor | None]
    values: dict[str, Tensor]
    scores: dict[str, Tensor]
    fns: dict[str, list[Any]]
    state: Any


def walk(
    steps: Steps, values: Mapping[str, Tensor | None], shapes: Mapping[str, tuple[int, ...]]
) -> Walk:
    """All steps at these values, drawing those that are None, in these batch shapes."""
    given = steps.given(values)
    dims = {s.name: len(s.event_shape) for s in steps.statements}
    known = [v.shape[: v.ndim - 1 - dims[n]] for n, v in given.items() if v is not None]
    batch = torch.broadcast_shapes(steps.batch, *known, *shapes.values())
    state, results = steps.wide(steps.initial, batch), []
    shapes = {name: batch for name, value in given.items() if value is None}
    for now in steps.slices(given):
        results.append(steps.one(state, now, shapes))
        state = results[-1].state
    names = list(dims)
    paths = {n: stacked([r.values[n] for r in results], dims[n]) for n in names}
    return Walk(
        dict(values),
        {n: cleared(path, steps.random, dims[n]) for n, path in paths.items()},
        {n: stacked([r.scores[n] for r in results], 0) for n in names},
        {n: [r.fns[n] for r in results] for n in names},
        state,
    )


class Parts(list[Tensor]):
    """The steps of an array."""


def part_of(parts: Any, t: int) -> Any:
    """One of them."""
    return parts if parts is None else parts[t]


def stacked(parts: list[Tensor], event_dim: int) -> Tensor:
    """Arrays (*batch, *event) of all steps as (*batch, length, *event)."""
    shape = torch.broadcast_shapes(*(part.shape for part in parts))
    return torch.stack([part.expand(shape) for part in parts], -1 - event_dim)


def leaves_of(tree: Any) -> list[Any]:
    """The arrays of a tuple, a dict or another tree, without None."""
    found: list[Any] = []
    tree_map(lambda leaf: None if leaf is None else found.append(leaf), tree)
    return found


def as_array(leaf: Any) -> Any:
    """An array of a tree; those of numpy in torch's default precision."""
    if leaf is None or isinstance(leaf, Tensor):
        return leaf
    found = torch.as_tensor(leaf)
    return found.to(torch.get_default_dtype()) if found.is_floating_point() else found


def forms_of(tree: Any) -> list[tuple[tuple[int, ...], str]]:
    """Shape and dtype of each array of a state."""
    return [(tuple(x.shape), str(x.dtype).removeprefix("torch.")) for x in leaves_of(tree)]


def one_more(support: Any) -> Any:
    """The support of a path of values."""
    return torch.distributions.constraints.independent(support, 1)


def length_of(trees: Mapping[str, Any], event_dim: int, length: int | None) -> int | None:
    """The number of steps that some trees of sequences have, by name."""
    for name, tree in trees.items():
        for leaf in leaves_of(tree):
            length = check_sequences(name, tuple(leaf.shape), event_dim, length)
    return length
