"""The sites of an unrolled step: each statement is one path of values."""

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, ClassVar

import pyro
import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor

from dgm_core.contexts import check_expanded
from dgm_core.paths import check_path
from dgm_core.steps import Statement, no_mean, too_early
from pyro_dgm.compat import in_torch_func
from pyro_dgm.conditionals.paths.base import OfSteps, cleared, total
from pyro_dgm.sequences.walk import Steps, Walk, one_more, stacked, walk

__all__: list[str] = []  # for the package, not for users

# Where programs are only asked what they unroll: the runs found so far.
collecting: ContextVar[list["Sites"] | None] = ContextVar("collecting", default=None)

# What `unroll` goes on from: paths by site, and how many of their steps are known.
prefixes: ContextVar[tuple[Mapping[str, Tensor], Any] | None] = ContextVar("prefixes", default=None)


class Sites:
    """The sites of the statements of a step, one of another's values being known before any is
    drawn: a site that is asked for a draw states those behind it first, and the last to be asked
    walks through the steps.
    """

    def __init__(self, steps: Steps) -> None:
        self.steps = steps
        self.values: dict[str, Tensor | None] = dict.fromkeys(s.name for s in steps.statements)
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.prefix: dict[str, Tensor] = {}
        self.settled = False
        self._asked: set[str] = set()
        self._walk: Walk | None = None
        self._wide = torch.Size()

    def settle(self) -> Walk:
        """All steps, at the values that the sites have or draw."""
        self.state_rest()
        self.settled = True
        return self.walked(self.values)

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
            self.values[statement.name] = pyro.sample(statement.name, fn, obs=value, infer=infer)

    def _batch(self) -> torch.Size:
        """The batch shape of the steps at all values that are known, or to be drawn."""
        dims = {s.name: 1 + len(s.event_shape) for s in self.steps.statements}
        values = {**self.prefix, **self.values}.items()
        known = {n: v.shape[: v.ndim - dims[n]] for n, v in values if v is not None}
        own = self.steps.batch, self._wide
        return torch.broadcast_shapes(*own, *known.values(), *self.shapes.values())

    def widen(self, shape: torch.Size) -> None:
        """Missing data are drawn in a batch shape at least."""
        self._wide = torch.broadcast_shapes(self._wide, shape)

    def drawn(self, name: str, shape: torch.Size) -> Tensor:
        """A path of one site, drawn with those behind it."""
        if self.settled:
            return walk(self.steps, {**self.values, name: None}, {name: shape}).values[name]
        self.shapes[name] = shape
        self.state_rest()
        if collecting.get() is not None:
            statement = next(s for s in self.steps.statements if s.name == name)
            return torch.full((*shape, self.steps.length, *statement.event_shape), torch.nan)
        if self._walk is None:
            self._walk = walk(self.steps, {**self.values, **self.prefix}, self.shapes)
        return self._walk.values[name]

    def walked(self, values: Mapping[str, Tensor | None]) -> Walk:
        """All steps at these values: those of the last walk, unless they differ."""
        last = self._walk
        if last is None or not all(self._same(last, name, values[name]) for name in values):
            self._walk = last = walk(self.steps, values, {**self.shapes, "all": self._wide})
        return last

    def _same(self, last: Walk, name: str, value: Any) -> bool:
        """Whether a value is that of a walk; data may differ where nothing is observed."""
        given = last.given[name]
        if value is last.values[name] or value is given:
            return True
        statement = next(s for s in self.steps.statements if s.name == name)
        observes = statement.leaf is not None
        if given is None or not observes or value.requires_grad or given.requires_grad:
            return False
        if value.shape != given.shape or torch.compiler.is_compiling() or in_torch_func():
            return False
        mask, dims = self.steps.known, len(statement.event_shape)
        return torch.equal(cleared(value, mask, dims), cleared(given, mask, dims))


class SitePath(OfSteps, TorchDistribution):
    """The path of a statement, each step given what was before it: of event shape (length,
    *event_shape of a step).
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}

    def __init__(self, sites: Sites, statement: Statement, batch_shape: torch.Size) -> None:
        self.sites, self.statement = sites, statement
        self.lengths = sites.steps.lengths
        self.observed = None if statement.leaf is None else sites.steps.observed
        event_shape = torch.Size((sites.steps.length, *statement.event_shape))
        super().__init__(torch.Size(batch_shape), event_shape, validate_args=False)

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

    def expand(self, batch_shape: torch.Size, _instance: None = None) -> "SitePath":
        shape = check_expanded(self.batch_shape, batch_shape)
        if self.draws_missing:
            self.sites.widen(torch.Size(shape))
        return SitePath(self.sites, self.statement, torch.Size(shape))

    def rsample(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> Tensor:
        shape = torch.Size(sample_shape) + self.batch_shape
        return self.sites.drawn(self.statement.name, shape)

    def sample(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> Tensor:
        path = self.rsample(sample_shape)
        return path.detach() if path.requires_grad else path

    def log_prob(self, value: Tensor) -> Tensor:
        return total(self.step_log_prob(value), self.lengths)

    def step_log_prob(self, value: Tensor) -> Tensor:
        """The log-density of each step given what was before it (*batch, length), zero where
        nothing is random, or observed.
        """
        check_path(value.shape, self.event_shape)
        scores = self._walked(value).scores[self.statement.name]
        batch = torch.broadcast_shapes(scores.shape[:-1], self.batch_shape)
        return scores.expand(*batch, scores.shape[-1])

    @property
    def mean(self) -> Tensor:
        """Of each step given what was before it."""
        return self._of_steps("mean")

    @property
    def variance(self) -> Tensor:
        """Of each step given what was before it."""
        return self._of_steps("variance")

    def _of_steps(self, what: str) -> Tensor:
        name, dims = self.statement.name, len(self.statement.event_shape)
        value = self.sites.values[name]
        try:
            parts = [getattr(fn, what) for fn in self._walked(value).fns[name]]
        except NotImplementedError as error:
            raise no_mean(name, error) from error
        found = stacked(parts, dims)
        shape = torch.broadcast_shapes(found.shape[: found.ndim - dims - 1], self.batch_shape)
        found = found.expand(*shape, *found.shape[found.ndim - dims - 1 :])
        return cleared(found, self.sites.steps.random, dims)

    def _walked(self, value: Any) -> Walk:
        if not self.sites.settled:
            raise too_early(self.statement.name)
        return self.sites.walked({**self.sites.values, self.statement.name: value})
