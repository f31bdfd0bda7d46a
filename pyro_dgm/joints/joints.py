"""The two joints that every loss compares.

The inference joint q(x, z) = p_data(x) q(z | x): the guide runs on the data and the model is
replayed against it.
The generative joint p(x, z) = p(z) p(x | z): the model runs forward and ignores the data.
Each runs at most once per step, when the first term asks for it, and terms read from it by site
name.
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from pyro import poutine
from pyro.distributions import Categorical
from pyro.poutine import Trace
from pyro.poutine.runtime import Message
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from pyro_dgm.joints.handlers import GivenDraws, ParticlePlate, StoppedValues, frozen_parameters
from pyro_dgm.joints.inference import InferenceJoint, side_by_particle
from pyro_dgm.joints.structure import (
    Structure,
    check_sites,
    declared_size,
    find_structure,
    no_gradient_message,
    random_sites,
)
from pyro_dgm.nn import evaluation_mode

__all__ = ["Joints"]


class Joints:
    """Both joints of one step, run lazily and at most once.

    Particles are a leading dimension of every draw: in Pyro the model sees it and must broadcast
    over it, as `vectorize_particles` asks; in NumPyro `jax.vmap` hides it, so that any model will
    do.

    Args: model and guide, any callables of sample statements, with the arguments `args` and
    `kwargs` that both take; num_particles, how often the guide draws; share_globals, whether global
    latents are drawn once for all particles when a plate is subsampled, as the importance-weighted
    bound needs. In NumPyro also rng_key, params (the constrained values of all parameters) and
    mutable_state (afterwards averaged over the particles).
    Raises: ValueError when the guide misses a latent site or draws one that the model has not.
    """

    def __init__(
        self,
        model: Callable,
        guide: Callable,
        args: tuple = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        num_particles: int = 1,
        share_globals: bool = False,
        structures: dict[Any, Structure] | None = None,
    ) -> None:
        self.model = model
        self.guide = guide
        self.args = args
        self.kwargs = dict(kwargs or {})
        self.num_particles = num_particles
        self.share_globals = share_globals
        self._structures = {} if structures is None else structures
        self._inference: dict[bool, InferenceJoint] = {}
        self._forward: list[Trace] = []
        self.outputs: dict[Any, tuple[Tensor, Tensor]] = {}  # of critics in their updates, by term

    def inference(self, *, stopped: bool = False) -> InferenceJoint:
        """Guide on data, model replayed against it; with `stopped` no gradient flows through the
        drawn values.
        """
        if stopped not in self._inference:
            structure = self._structure() if self.num_particles > 1 else None
            guide_trace = self._run_guide(structure, stopped)
            model_trace = self._run_model(guide_trace)
            if structure is None:
                structure = find_structure(model_trace, guide_trace)
            else:
                check_sites(model_trace, guide_trace)
            self._inference[stopped] = InferenceJoint(model_trace, guide_trace, structure)
        return self._inference[stopped]

    def generative(self, index: int = 0) -> Trace:
        """The trace of the model run forward: observed sites are drawn as well (plates keep the
        size of the data); with `index` another such run.
        """
        while len(self._forward) <= index:
            self._forward.append(
                poutine.trace(poutine.uncondition(self.model)).get_trace(*self.args, **self.kwargs)
            )
        return self._forward[index]

    @property
    def data_size(self) -> int:
        """The number of data that the plates declare; from whichever joint has run."""
        if self._inference or not self._forward:
            return self.inference().data_size
        return declared_size(self._forward[0])

    def samples(self, sites: tuple[str, ...]) -> tuple[Tensor, Tensor]:
        """The values of some sites in both joints, "real" and "fake": (num, *event) for one site;
        several are flattened, side by side: (num, entries).

        Values of a Categorical are one-hot vectors, (num, *event, num_classes).

        Raises: ValueError for a site that the model has not, or one whose distribution is learned
            but through whose draws no gradient passes.
        """
        trace = self.generative()
        nodes = random_sites(trace)
        if unknown := [name for name in sites if name not in nodes]:
            raise ValueError(f"The model has no sample site {unknown}; it has {sorted(nodes)}.")
        real = []
        for name in sites:
            site = nodes[name]
            if site["infer"].get("was_observed"):
                real.append((site["infer"]["obs"], site["fn"].event_dim))
            else:
                drawn = self.inference().guide_trace.nodes[name]
                _check_pathwise(name, drawn, "guide")
                real.append((drawn["value"], drawn["fn"].event_dim))
        for name in _up_to(list(nodes), sites):
            _check_pathwise(name, nodes[name], "model")
        fake = [(nodes[name]["value"], nodes[name]["fn"].event_dim) for name in sites]
        fns = [nodes[name]["fn"] for name in sites]
        return side_by_side(list(map(with_vectors, real, fns))), side_by_side(
            list(map(with_vectors, fake, fns))
        )

    def prior(self, names: tuple[str, ...]) -> dict[str, Tensor]:
        """Draws of latent sites by the model alone, as many as the guide's, shaped as
        `InferenceJoint.entries`; no gradient passes.
        """
        structure = self.inference().structure
        with torch.no_grad(), ParticlePlate(self.num_particles, structure.batch_ndim):
            trace = poutine.trace(poutine.uncondition(self.model)).get_trace(
                *self.args, **self.kwargs
            )
        sizes = {
            name: None if name in structure.global_sites else self.inference().sizes
            for name in names
        }
        return {
            name: side_by_particle(
                trace.nodes[name]["value"],
                trace.nodes[name]["fn"].event_dim,
                structure,
                sizes[name],
            )
            for name in names
        }

    def redrawn(self, sites: tuple[str, ...], num: int) -> Tensor:
        """Draws of observed sites in `num` runs of the model on the same batch: (num, num_data,
        *event), or of several sites (num, num_data, entries).
        """
        draws = []
        for nodes in (random_sites(self.generative(index)) for index in range(num)):
            if latent := [name for name in sites if not nodes[name]["infer"].get("was_observed")]:
                raise ValueError(
                    f"The sites {latent} are not observed: there is nothing to compare their "
                    "draws with."
                )
            draws.append(
                side_by_side(
                    [(nodes[name]["value"], nodes[name]["fn"].event_dim) for name in sites]
                )
            )
        return torch.stack(draws)

    def with_frozen_guide(self, joint: InferenceJoint) -> InferenceJoint:
        """The same draws, with q(z | x) scored under constant guide parameters: gradients reach the
        guide only along the path through z.
        """
        return InferenceJoint(joint.model_trace, self._rerun_guide(joint, {}), joint.structure)

    def rescored(
        self, joint: InferenceJoint, weights: Tensor, sites: tuple[str, ...]
    ) -> InferenceJoint:
        """Model and frozen guide scored at the draws, with the gradient through `sites` multiplied
        by constant weights.

        Shapes: weights (num_particles, *sizes), or (num_particles,) when they are those of the
            whole joint.
        """
        drawn = {name: joint.guide_trace.nodes[name] for name in sites if self.num_particles > 1}
        values = {
            name: _scale_gradient(site["value"], self._spread(joint, weights, site))
            for name, site in drawn.items()
        }
        guide_trace = self._rerun_guide(joint, values)
        return InferenceJoint(self._run_model(guide_trace), guide_trace, joint.structure)

    def _spread(self, joint: InferenceJoint, weights: Tensor, site: Message) -> Tensor:
        """Weights shaped to multiply the value of a site: (num_particles, ..., data dimensions,
        ..., 1 per event dimension).
        """
        shape = [1] * joint.structure.batch_ndim
        for dim, size in zip(joint.structure.plates.values(), weights.shape[1:], strict=False):
            shape[dim] = size
        return weights.reshape(-1, *shape, *[1] * site["fn"].event_dim)

    def _structure(self) -> Structure:
        key = (self.model, self.guide)
        if key not in self._structures:
            with torch.no_grad(), torch.random.fork_rng(), evaluation_mode(self.model, self.guide):
                guide_trace = poutine.trace(self.guide).get_trace(*self.args, **self.kwargs)
                self._structures[key] = find_structure(self._run_model(guide_trace), guide_trace)
        return self._structures[key]

    def _run_guide(self, structure: Structure | None, stopped: bool) -> Trace:
        with ExitStack() as stack:
            if structure is not None:
                shared = (
                    structure.global_sites if self.share_globals and structure.subsampled else ()
                )
                stack.enter_context(
                    ParticlePlate(self.num_particles, structure.batch_ndim, shared=shared)
                )
            if stopped:
                stack.enter_context(StoppedValues())
            return poutine.trace(self.guide).get_trace(*self.args, **self.kwargs)

    def _rerun_guide(self, joint: InferenceJoint, values: Mapping[str, Tensor]) -> Trace:
        with frozen_parameters(), _draws_of(joint.guide_trace, values):
            return poutine.trace(self.guide).get_trace(*self.args, **self.kwargs)

    def _run_model(self, guide_trace: Trace) -> Trace:
        with _draws_of(guide_trace):
            return poutine.trace(self.model).get_trace(*self.args, **self.kwargs)


def _scale_gradient(x: Tensor, factor: Tensor) -> Tensor:
    return x.detach() + factor * (x - x.detach())


def _draws_of(trace: Trace, values: Mapping[str, Tensor] | None = None) -> GivenDraws:
    drawn = {
        name: site["value"] for name, site in random_sites(trace).items() if not site["is_observed"]
    }
    indices = {name: site["value"] for name, site in trace.nodes.items() if site_is_subsample(site)}
    return GivenDraws({**drawn, **(values or {})}, indices)


def _up_to(order: list[str], sites: tuple[str, ...]) -> list[str]:
    """The sites that are drawn before the last of the given ones, and that one: all that these can
    depend on.
    """
    return order[: 1 + max(order.index(name) for name in sites)]


def side_by_side(values: list[tuple[Tensor, int]]) -> Tensor:
    """Values (*batch, *event) with their event dimensions: one as (num, *event), several as (num,
    entries).
    """
    batches = [value.shape[: value.ndim - event_dim] for value, event_dim in values]
    if len(values) == 1:
        return values[0][0].reshape(-1, *values[0][0].shape[len(batches[0]) :])
    batch = torch.broadcast_shapes(*batches)
    parts = [
        value.expand(batch + value.shape[len(own) :]).reshape(batch.numel(), -1)
        for (value, _), own in zip(values, batches)
    ]
    dtype = next(
        (part.dtype for part in parts if part.is_floating_point()), torch.get_default_dtype()
    )
    return torch.cat([part.to(dtype) for part in parts], 1)


def with_vectors(value: tuple[Tensor, int], fn: Any) -> tuple[Tensor, int]:
    """A value of a site and its number of event dimensions, the labels of a Categorical as one-hot
    vectors.
    """
    base, (labels, event_dim) = _base(fn), value
    if not isinstance(base, Categorical):
        return value
    probs = base.probs
    return (labels[..., None] == torch.arange(probs.shape[-1], device=labels.device)).to(
        probs.dtype
    ), event_dim + 1


def _check_pathwise(name: str, site: Message, owner: str) -> None:
    """Raises ValueError for a site that has learnable parameters and draws through which no
    gradient passes.
    """
    if site["fn"].has_rsample or not torch.is_grad_enabled():
        return
    if site["fn"].log_prob(site["value"].detach()).requires_grad:
        raise ValueError(no_gradient_message(name, _family(site["fn"]), owner))


def _family(fn: Any) -> str:
    return type(_base(fn)).__name__


def _base(fn: Any) -> Any:
    """A distribution without what was wrapped around it."""
    while hasattr(fn, "base_dist"):
        fn = fn.base_dist
    return fn
