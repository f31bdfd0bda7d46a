"""One step of model and guide together, for many particles: what filters and bounds that resample
between the steps are made of.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dgm_core.steps import (
    check_same_length,
    check_same_scale,
    masked,
    no_state,
    not_a_sequence,
    not_unrolled,
)
from dgm_core.structure import Structure, structure_of_draws
from pyro_dgm.compat import tree_map
from pyro_dgm.joints.structure import (
    Trace,
    find_structure,
    kind_of,
    random_sites,
    sites_of,
    trace_of,
)
from pyro_dgm.sequences.path import Sites, collecting
from pyro_dgm.sequences.walk import Step, Steps, leaves_of

__all__ = ["StepPair", "WeightedStep", "step_pair"]


@dataclass(frozen=True)
class WeightedStep:
    """One step of particles.

    Attributes:
        states: of model and guide behind the step.
        log_likelihood, log_prior, log_posterior: log p(x_t | z_t, ...), log p(z_t | ...) and log
            q(z_t | ...) of each particle, zero behind the end of a sequence.
        score: the part of log_posterior (without a guide: log_prior) whose draws have no gradient,
            None where all have.
        values: by statement, latent ones and data, these completed where they are missing.
        fns: the model's distributions by statement.

    Shapes:
        log-densities (num_particles, *batch), values (num_particles, *batch, *event).
    """

    states: Any
    log_likelihood: Tensor
    log_prior: Tensor
    log_posterior: Tensor
    score: Tensor | None
    values: dict[str, Tensor]
    fns: dict[str, Any]

    @property
    def log_weight(self) -> Tensor:
        """log p(x_t, z_t | ...) - log q(z_t | ...), (num_particles, *batch)."""
        return self.log_likelihood + self.log_prior - self.log_posterior


class StepPair:
    """A model and a guide, each of one `unroll`, run together step by step; made by `step_pair`.

    Attributes:
        structure: of the programs (`joints.Structure`): plates, sizes, data_size.
        scale: how often a datum counts, N / B under subsampling and what else stands around.
        length, lengths: T, and those of the sequences, or None.
        batch_shape: of the sequences.
        reparameterized: whether a gradient passes through all that is drawn.
        latents: the names of the latent statements.
        slices: what each of the T steps is given, in NumPyro arrays with time first, for a scan.
    """

    def __init__(
        self,
        model: Sites,
        guide: Sites | None,
        structure: Structure,
        scale: Any,
        batch_shape: tuple[int, ...],
    ) -> None:
        self.model, self.guide = model, guide
        self.structure, self.scale, self.batch_shape = structure, scale, tuple(batch_shape)
        steps = model.steps
        self.length, self.lengths = steps.length, steps.lengths
        self.latents = tuple(s.name for s in steps.statements if s.leaf is None)
        drawing = (guide or model).steps.statements
        self.reparameterized = all(s.reparameterized for s in drawing if s.name in self.latents)
        parts = [_slices(sites.steps) for sites in (model, guide) if sites is not None]
        self.slices = list(zip(*parts))

    def initial(self, num_particles: int) -> Any:
        """The states before the first step, of `num_particles` particles."""
        shape = (num_particles, *self.batch_shape)
        steps = [sites.steps for sites in (self.model, self.guide) if sites is not None]
        states = tuple(own.wide(own.initial, shape) for own in steps)
        if not leaves_of(states):
            raise no_state()
        return states

    def at(self, t: int) -> Any:
        """What step t = 0, ..., T - 1 is given: an entry of `slices`."""
        return self.slices[t]

    def step(self, states: Any, now: Any) -> WeightedStep:
        """One step of all particles from their states; `now` is `at(t)`. The guide draws and the
        model scores; without a guide the model draws."""
        leaf = leaves_of(states)[0]
        shape = leaf.shape[: 1 + len(self.batch_shape)]
        zeros, (given, *seen) = torch.zeros(shape, device=leaf.device), now
        shapes = dict.fromkeys(self.latents, shape)
        after, log_q, drawn = [], None, None
        if self.guide is not None:
            steps = self.guide.steps
            shapes_of_guide = dict.fromkeys((s.name for s in steps.statements), shape)
            drawn = steps.one(states[1], seen[0], shapes_of_guide)
            log_q, after = sum(drawn.scores.values(), zeros), [steps.wide(drawn.state, shape)]
            values = {name: drawn.values[name] for name in self.latents}
            given = {**given, "values": {**given["values"], **values}}
        scored = self.model.steps.one(states[0], given, shapes)
        after = [self.model.steps.wide(scored.state, shape), *after]
        log_prior = sum((scored.scores[name] for name in self.latents), zeros)
        seen_scores = [s for name, s in scored.scores.items() if name not in self.latents]
        return WeightedStep(
            tuple(after),
            sum(seen_scores, zeros),
            log_prior,
            log_prior if log_q is None else log_q,
            self._score(drawn or scored, zeros),
            scored.values,
            scored.fns,
        )

    def _score(self, drawn: Step, zeros: Tensor) -> Tensor | None:
        statements = (self.guide or self.model).steps.statements
        names = [s.name for s in statements if s.leaf is None and not s.reparameterized]
        return sum((drawn.scores[name] for name in names), zeros) if names else None

    def chosen(self, states: Any, ancestors: Tensor) -> Any:
        """The states of particles (num, *batch) by their numbers among the old ones."""

        def taken(leaf: Any) -> Any:
            index = ancestors.reshape(*ancestors.shape, *[1] * (leaf.ndim - ancestors.ndim))
            return leaf.gather(0, index.expand(*ancestors.shape, *leaf.shape[ancestors.ndim :]))

        return tree_map(taken, states)


def _slices(steps: Steps) -> Any:
    data = {s.name: steps.data[s.leaf] for s in steps.statements if s.leaf is not None}
    none = dict.fromkeys(s.name for s in steps.statements)
    return steps.slices(steps.given({**none, **data}))


def step_pair(
    model: Callable[..., Any],
    guide: Callable[..., Any] | None,
    args: tuple = (),
    kwargs: Mapping[str, Any] | None = None,
) -> StepPair:
    """Model and guide, whose sample statements are those of one `unroll` each, step by step.

    The programs run once, without their steps: parameters are those of the handlers around.

    Args:
        model: a program that calls `unroll`.
        guide: likewise, with the model's latent statements; None: the model draws them itself (the
            bootstrap proposal).
        args, kwargs: what both take.

    Raises:
        ValueError: for programs without `unroll` or with more than one, or with other statements.
    """
    own, model_trace = _unrolled("model", model, args, kwargs)
    theirs, structure = None, structure_of_draws(sites_of(model_trace))
    if guide is not None:
        theirs, guide_trace = _unrolled("guide", guide, args, kwargs)
        structure = find_structure(model_trace, guide_trace)
        check_same_length(own.steps.length, theirs.steps.length)
    sites = random_sites(model_trace)
    batch = torch.broadcast_shapes(*(site["fn"].batch_shape for site in sites.values()))
    scale = next(iter(sites.values()))["scale"]
    everywhere = [*sites.values(), *(random_sites(guide_trace).values() if guide else ())]
    check_same_scale([site["scale"] for site in everywhere], structure.data_scale)
    return StepPair(own, theirs, structure, scale, batch)


def _unrolled(
    owner: str, program: Callable, args: tuple, kwargs: Mapping[str, Any] | None
) -> tuple[Sites, Trace]:
    """The one unroll of a program, and the trace of its sites."""
    with collected() as found:
        trace = trace_of(program, args, kwargs)
    if len(found) != 1:
        raise not_a_sequence(owner, len(found))
    factors = [n for n, site in trace.nodes.items() if kind_of(site) == "factor"]
    if beyond := factors + [n for n in random_sites(trace) if n not in found[0].values]:
        raise not_unrolled(beyond, owner)
    if any(site["mask"] is not None for site in random_sites(trace).values()):
        raise masked(owner)
    return found[0], trace


@contextmanager
def collected() -> Iterator[list[Sites]]:
    """A block in which `unroll` only says what it would run."""
    found: list[Sites] = []
    token = collecting.set(found)
    try:
        yield found
    finally:
        collecting.reset(token)
