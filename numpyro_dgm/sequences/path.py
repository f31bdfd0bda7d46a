"""The sites of an unrolled step: each statement is one path of values."""

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpyro
from jax import Array
from numpyro.distributions import Distribution, constraints

from dgm_core.contexts import check_expanded
from dgm_core.paths import check_path
from dgm_core.steps import Statement, no_mean, too_early
from numpyro_dgm.conditionals.paths.base import OfSteps, total
from numpyro_dgm.sequences.walk import Steps, Walk, one_more, walk

__all__: list[str] = []  # for the package, not for users

# Where programs are only asked what they unroll: the runs found so far.
collecting: ContextVar[list["Sites"] | None] = ContextVar("collecting", default=None)

# What `unroll` goes on from: paths by site, and how many of their steps are known.
prefixes: ContextVar[tuple[Mapping[str, Array], Any] | None] = ContextVar("prefixes", default=None)


class Sites:
    """The sites of the statements of a step, one of another's values being known before any is
    drawn: a site that is asked for a draw states those behind it first, and the last to be asked
    walks through the steps.
    """

    def __init__(self, steps: Steps, key: Array | None = None) -> None:
        self.steps = steps
        self.values: dict[str, Array | None] = dict.fromkeys(s.name for s in steps.statements)
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.prefix: dict[str, Array] = {}
        self.settled = False
        self.paths: list[SitePath] = []
        self._asked: set[str] = set()
        self._wide: tuple[int, ...] = ()
        # of what is drawn for missing data, until a draw of a site brings one
        self._key = jax.random.key(0) if key is None else key
        self._walk: Walk | None = None

    def settle(self) -> Walk:
        """All steps, at the values that the sites have or draw."""
        self.state_rest()
        self.settled = True
        walked = self.walked(self.values)
        for path in self.paths:
            path.evidence = walked.scores
        return walked

    def state_rest(self) -> None:
        """The statements that have not been made."""
        data = self.steps.data
        for statement in self.steps.statements:
            if statement.name in self._asked:
                continue
            self._asked.add(statement.name)
            fn = SitePath(self, statement, self._batch())
            leaf = statement.leaf if prefixes.get() is None else None
            value = None if leaf is None else data[leaf]
            infer = dict(statement.infer)
            self.values[statement.name] = numpyro.sample(statement.name, fn, obs=value, infer=infer)

    def _batch(self) -> tuple[int, ...]:
        """The batch shape of the steps at all values that are known, or to be drawn."""
        dims = {s.name: 1 + len(s.event_shape) for s in self.steps.statements}
        values = {**self.prefix, **self.values}.items()
        known = {n: v.shape[: v.ndim - dims[n]] for n, v in values if v is not None}
        own = self.steps.batch, self._wide
        return jnp.broadcast_shapes(*own, *known.values(), *self.shapes.values())

    def widen(self, shape: tuple[int, ...]) -> None:
        """Missing data are drawn in a batch shape at least."""
        self._wide = jnp.broadcast_shapes(self._wide, shape)

    def drawn(self, name: str, shape: tuple[int, ...], key: Array) -> Array:
        """A path of one site, drawn with those behind it."""
        if self.settled:
            values = {**self.values, name: None}
            return walk(self.steps, values, {name: shape}, key).values[name]
        self.shapes[name] = shape
        self.state_rest()
        if collecting.get() is not None:
            statement = next(s for s in self.steps.statements if s.name == name)
            return jnp.full((*shape, self.steps.length, *statement.event_shape), jnp.nan)
        if self._walk is None:
            self._key = key
            self._walk = walk(self.steps, {**self.values, **self.prefix}, self.shapes, key)
        return self._walk.values[name]

    def walked(self, values: Mapping[str, Array | None]) -> Walk:
        """All steps at these values: those of the last walk, unless they differ."""
        last = self._walk
        if last is None or not all(self._same(last, name, values[name]) for name in values):
            shapes = {**self.shapes, "all": self._wide}
            self._walk = last = walk(self.steps, values, shapes, self._key)
        return last

    def _same(self, last: Walk, name: str, value: Any) -> bool:
        return value is last.values[name] or value is last.given[name]

    def moment(self, values: Mapping[str, Array | None], name: str, what: str) -> Array:
        """A moment of the steps of a site."""
        try:
            found = walk(self.steps, values, self.shapes, self._key, (name, what))
        except NotImplementedError as error:
            raise no_mean(name, error) from error
        return found.moments[name]


class SitePath(OfSteps, Distribution):
    """The path of a statement, each step given what was before it: of event shape (length,
    *event_shape of a step).
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    pytree_data_fields = ("evidence",)

    def __init__(self, sites: Sites, statement: Statement, batch_shape: tuple[int, ...]) -> None:
        self.sites, self.statement = sites, statement
        self.lengths = sites.steps.lengths
        self.observed = None if statement.leaf is None else sites.steps.observed
        self.evidence: Any = None  # what tells whether it depends on parameters
        sites.paths.append(self)
        event_shape = (sites.steps.length, *statement.event_shape)
        super().__init__(tuple(batch_shape), event_shape, validate_args=False)

    @property
    def has_rsample(self) -> bool:
        """Whether a gradient passes through its draws, and those that are made with it."""
        drawn = {self.statement.name, *self.sites.shapes}
        return all(s.reparameterized for s in self.sites.steps.statements if s.name in drawn)

    @property
    def support(self) -> constraints.Constraint:
        return one_more(self.statement.support)

    @property
    def draws_missing(self) -> bool:
        """Whether data that are missing are drawn, by each batch dimension for itself."""
        return self.observed is not None and self.sites.steps.impute != "mean"

    def expand(self, batch_shape: tuple[int, ...]) -> "SitePath":
        shape = check_expanded(self.batch_shape, batch_shape)
        if self.draws_missing:
            self.sites.widen(shape)
        return SitePath(self.sites, self.statement, shape)

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        shape = (*sample_shape, *self.batch_shape)
        return self.sites.drawn(self.statement.name, shape, key)

    def log_prob(self, value: Array) -> Array:
        return total(self.step_log_prob(value), self.lengths)

    def step_log_prob(self, value: Array) -> Array:
        """The log-density of each step given what was before it (*batch, length), zero where
        nothing is random, or observed.
        """
        check_path(jnp.shape(value), self.event_shape)
        scores = self.sites.walked(self._values(value)).scores[self.statement.name]
        batch = jnp.broadcast_shapes(scores.shape[:-1], self.batch_shape)
        return jnp.broadcast_to(scores, (*batch, scores.shape[-1]))

    @property
    def mean(self) -> Array:
        """Of each step given what was before it."""
        return self._of_steps("mean")

    @property
    def variance(self) -> Array:
        """Of each step given what was before it."""
        return self._of_steps("variance")

    def _of_steps(self, what: str) -> Array:
        name, dims = self.statement.name, 1 + len(self.statement.event_shape)
        found = self.sites.moment(self._values(self.sites.values[name]), name, what)
        shape = jnp.broadcast_shapes(found.shape[: found.ndim - dims], self.batch_shape)
        return jnp.broadcast_to(found, (*shape, *found.shape[found.ndim - dims :]))

    def _values(self, value: Any) -> dict[str, Any]:
        if not self.sites.settled:
            raise too_early(self.statement.name)
        return {**self.sites.values, self.statement.name: value}
