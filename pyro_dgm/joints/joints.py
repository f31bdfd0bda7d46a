"""The two joints that every loss compares.

The inference joint q(x, z) = p_data(x) q(z | x): the guide runs on the data and the model is
replayed against it.  The generative joint p(x, z) = p(z) p(x | z): the model runs forward and
ignores the data. Each runs at most once per step, when the first term asks for it, and terms read
from it by site name.
"""

import itertools
import warnings
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import ExitStack, nullcontext
from typing import Any

import torch
from pyro.poutine.runtime import Message
from torch import Tensor

from dgm_core.enumeration import Enumeration
from dgm_core.guides import extended
from dgm_core.structure import LOOP_MESSAGE
from pyro_dgm.joints.conditioned import Conditioned
from pyro_dgm.joints.enumerated import EnumeratedValues, earlier_draws
from pyro_dgm.joints.handlers import (
    Drawable,
    DrawnData,
    Normalizing,
    ParticlePlate,
    StoppedValues,
    draws_of,
    frozen_parameters,
    rows_of,
)
from pyro_dgm.joints.inference import InferenceJoint, rescaled
from pyro_dgm.joints.particles import Plan, agree, draws_of_particle, shared_sites, signature
from pyro_dgm.joints.reading import log_density, side_by_particle
from pyro_dgm.joints.structure import (
    Trace,
    declared_size,
    find_structure,
    find_structure_at_once,
    no_gradient_message,
    random_sites,
    trace_of,
    undrawn,
)
from pyro_dgm.joints.values import base_of, side_by_side, with_vectors
from pyro_dgm.nn import evaluation_mode
from pyro_dgm.nn.states import compared, repeated

__all__ = ["Joints"]

Run = tuple[Trace, Trace]  # of the model and the guide that it was replayed against


class Joints(Conditioned):
    """Both joints of one step, run lazily and at most once.

    Particles are a leading dimension of every draw: in Pyro the model sees it and must broadcast
    over it, as `vectorize_particles` asks; in NumPyro `jax.vmap` hides it, so that any model will
    do.

    Args:
        model, guide: any callables of sample statements; where the guide draws more than the model,
            the model is taken with its reverse statements (`guide.extended`).
        args, kwargs: the arguments that both take.
        num_particles: how often the guide draws.
        share_globals: whether global latents are drawn once for all particles when a plate is
            subsampled, as the importance-weighted bound needs.
        vectorize: whether the particles run at once (True) or one after the other (False); None
            chooses: in Pyro at once where that gives the same as one by one.
        plans: what earlier runs of the same model and guide have found, in and out (Pyro).
        rng_key, params, mutable_state: in NumPyro also, the constrained values of all parameters
            and the mutable sites (afterwards averaged over the particles).

    Raises:
        ValueError: when the guide misses a latent site or draws one that the model has not, and for
            what else `dgm_core.structure.find_structure` refuses.
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
        vectorize: bool | None = None,
        plans: MutableMapping[Any, Plan] | None = None,
    ) -> None:
        self.model = extended(model, guide)
        self.guide = guide
        self.args = args
        self.kwargs = dict(kwargs or {})
        self.num_particles = num_particles
        self.share_globals = share_globals
        self.vectorize = vectorize
        self._plans = {} if plans is None else plans
        self._inference: dict[Any, InferenceJoint] = {}
        self._forward: list[Trace] = []
        self.states: dict[Any, Any] = {}  # what terms keep from step to step, by term
        self.outputs: dict[Any, tuple[Tensor, Tensor]] = {}  # of critics in their updates, by term

    def inference(
        self, *, stopped: bool = False, enumerate: tuple[str, ...] = ()
    ) -> InferenceJoint:
        """Guide on data, model replayed against it; with `stopped` no gradient flows through the
        drawn values; the sites named in `enumerate` take each of their values, those that the guide
        does not draw among them."""
        if (stopped, enumerate) not in self._inference:
            alone = self.vectorize is False or (self.num_particles == 1 and not enumerate)
            run = self._one_by_one if alone else self._planned
            self._inference[stopped, enumerate] = run(stopped, enumerate)
        return self._inference[stopped, enumerate]

    def traces(self) -> Run:
        """The traces of the model and of the guide in one run, with a single particle."""
        return self._run()

    def generative(self, index: int = 0) -> Trace:
        """The trace of the model run forward: observed sites are drawn as well (plates keep the
        size of the data); with `index` another such run.
        """
        while len(self._forward) <= index:
            self._forward.append(self._run_forward())
        return self._forward[index]

    def state(self, term: Any) -> Any:
        """What a term keeps from step to step, as it is in this one; as before the first step where
        nothing is known.
        """
        if term not in self.states:
            self.states[term] = term.init_state(self)
        return self.states[term]

    @property
    def data_size(self) -> int:
        """The number of data that the plates declare; from whichever joint has run."""
        if self.known_size is not None:
            return self.known_size
        if self._inference or not self._forward:
            return ([*self._inference.values()] or [self.inference()])[0].data_size
        return declared_size(self._forward[0])

    def samples(self, sites: tuple[str, ...]) -> tuple[Tensor, Tensor]:
        """The values of some sites in both joints, "real" and "fake": (num, *event) for one site;
        several are flattened, side by side: (num, entries).

        Values of a Categorical are one-hot vectors, (num, *event, num_classes); integers, as of
        images with values 0 and 1, are seen as real numbers.

        Raises:
            ValueError: for a site that the model has not, or one whose distribution is learned but
                through whose draws no gradient passes.
        """
        nodes = random_sites(self.generative())
        if unknown := [name for name in sites if name not in nodes]:
            raise ValueError(f"The model has no sample site {unknown}; it has {sorted(nodes)}.")
        real = []
        for name in sites:
            site = nodes[name]
            if site["infer"].get("was_observed"):
                real.append((site["infer"]["obs"], site["fn"].event_dim))
            else:
                for _, guide_trace in self.inference().runs:
                    _check_pathwise(name, guide_trace.nodes[name], "guide")
                real.append((self.inference().values(name), site["fn"].event_dim))
        for name in _up_to(list(nodes), sites):
            _check_pathwise(name, nodes[name], "model")
        fake = [(nodes[name]["value"], nodes[name]["fn"].event_dim) for name in sites]
        fns = [nodes[name]["fn"] for name in sites]
        data, drawn = (side_by_side(list(map(with_vectors, x, fns))) for x in (real, fake))
        return data if data.is_floating_point() else data.to(drawn.dtype), drawn

    def prior(self, names: tuple[str, ...]) -> dict[str, Tensor]:
        """Draws of latent sites by the model alone, as many as the guide's, shaped as
        `InferenceJoint.entries`; no gradient passes."""
        joint = self.inference()
        structure, looped = joint.structure, len(joint.runs) > 1
        at_once = ParticlePlate(self.num_particles, structure.batch_ndim)
        together = self.num_particles > 1 and not looped
        with torch.no_grad(), at_once if together else nullcontext():
            traces = [self._run_forward() for _ in joint.runs]
        drawn = {}
        for name in names:
            sites = [trace.nodes[name] for trace in traces]
            sizes = None if name in structure.global_sites else joint.sizes
            drawn[name] = torch.cat(
                [side_by_particle(s["value"], s["fn"].event_dim, structure, sizes) for s in sites]
            )
        return drawn

    def redrawn(self, sites: tuple[str, ...], num: int) -> Tensor:
        """Draws of observed sites in `num` runs of the model on the same batch: (num,
        num_data, *event), or of several sites (num, num_data, entries).
        """
        draws = []
        for nodes in (random_sites(self.generative(index)) for index in range(num)):
            if latent := [n for n in sites if not nodes[n]["infer"].get("was_observed")]:
                raise ValueError(
                    f"The sites {latent} are not observed: there is nothing to compare their "
                    "draws with."
                )
            values = [(nodes[name]["value"], nodes[name]["fn"].event_dim) for name in sites]
            draws.append(side_by_side(values))
        return torch.stack(draws)

    def with_frozen_guide(self, joint: InferenceJoint) -> InferenceJoint:
        """The same draws, with q(z | x) scored under constant guide parameters: gradients reach the
        guide only along the path through z, and through what it states but does not draw."""
        runs = [(model, self._frozen(guide, joint)) for model, guide in joint.runs]
        frozen = InferenceJoint(runs, joint.structure, joint.enumeration)
        return frozen.with_shares_of(joint)

    def rescored(
        self, joint: InferenceJoint, weights: Tensor, sites: tuple[str, ...]
    ) -> InferenceJoint:
        """Model and frozen guide scored at the draws, with the gradient through `sites` multiplied
        by constant weights w, or by 1 - s (1 - w) where log q counts s times (0 under a mask).

        Shapes:
            weights (num_particles, *sizes), or (num_particles,) for those of the whole joint.
        """
        runs = []
        weights = joint.path_weights(weights, sites)
        for (model, guide), own in zip(joint.runs, weights.chunk(len(joint.runs)), strict=True):
            given = tuple(name for name in joint.latent_sites if not joint.is_determined(name))
            drawn = {name: guide.nodes[name] for name in given if name in sites}
            values = {name: rescaled(site, own, joint) for name, site in drawn.items()}
            live = guide
            if undrawn(guide):
                with repeated(), draws_of(guide, values, only=given):
                    live = trace_of(self.guide, self.args, self.kwargs)
            live.nodes.update({name: guide.nodes[name] for name in joint.summed_sites})
            guide_trace = self._frozen(live, joint, values)
            runs.append((self._run_model(guide_trace, rows_of(model)), guide_trace))
        return InferenceJoint(runs, joint.structure, joint.enumeration)

    def _enumeration(self, names: tuple[str, ...]) -> Enumeration:
        """How the values of these sites are numbered, found from one run."""
        first = EnumeratedValues(names)
        with torch.no_grad(), torch.random.fork_rng(), evaluation_mode(self.model, self.guide):
            run = self._run(values=first)
        return first.numbered(find_structure(*run), run, self.num_particles)

    def _planned(self, stopped: bool, names: tuple[str, ...]) -> InferenceJoint:
        """A run with many particles as planned; what an earlier call planned may not
        fit this one.
        """
        draws = self.num_particles if names else None
        key = signature((self.args, self.kwargs, self.share_globals, names)), draws
        for known in (key in self._plans, False):
            plan = self._plans[key] if known else self._plan(names)
            if not known:
                self._plans[key] = plan
            if not plan.at_once:
                break
            own = plan.enumeration
            num = self.num_particles if own is None else own.num_particles
            values = EnumeratedValues(names, range(num), plan.batch_ndim, own)
            try:
                run = self._run(plan.particles(num), stopped=stopped, values=values)
                structure = find_structure_at_once(*run, num, plan.batch_ndim)
            except Exception:
                if not known:
                    raise
                continue
            if plan.shared == shared_sites(structure, self.share_globals) and values.as_numbered:
                return InferenceJoint([run], structure, own)
        return self._one_by_one(stopped, names)

    def _plan(self, names: tuple[str, ...]) -> Plan:
        """Whether the particles may run at once, found from runs of a few, and in which
        dimension.
        """
        with torch.no_grad(), torch.random.fork_rng(), evaluation_mode(self.model, self.guide):
            first = EnumeratedValues(names)
            single = self._run(values=first)
            structure = find_structure(*single)
            own = first.numbered(structure, single, self.num_particles) if names else None
            shared = shared_sites(structure, self.share_globals)
            plan = Plan(True, structure.batch_ndim, shared, own)
            with compared():
                if self.vectorize or self._broadcasts(plan, single, names):
                    return plan
        if all(plan.at_once for plan in self._plans.values()):
            warnings.warn(LOOP_MESSAGE, UserWarning, stacklevel=2)
        return Plan(False, structure.batch_ndim)

    def _broadcasts(self, plan: Plan, single: Run, names: tuple[str, ...]) -> bool:
        """Whether a few particles at once, of a number that is no size of the model, have the
        log-densities that each has by itself."""
        sizes = {
            size
            for trace in single
            for site in random_sites(trace).values()
            for size in site["fn"].batch_shape
        }
        num = next(number for number in itertools.count(2) if number not in sizes)
        rows = rows_of(single[0])
        try:
            at_once = EnumeratedValues(names, range(num), plan.batch_ndim)
            given = draws_of(single[1], only=())
            run = self._run(plan.particles(num), given, values=at_once, rows=rows)
            structure = find_structure_at_once(*run, num, plan.batch_ndim)
            alone = []
            for index in range(num):
                drawn = draws_of(run[1], draws_of_particle(run[1], index, single[1]), only=())
                own = self._run(drawn, values=EnumeratedValues(names, (index,)), rows=rows)
                alone.append(InferenceJoint([own], find_structure(*own)))
            return agree(InferenceJoint([run], structure), alone)
        except Exception:  # whatever a model does with a dimension that it does not expect
            return False

    def _one_by_one(self, stopped: bool, names: tuple[str, ...]) -> InferenceJoint:
        """One particle after the other, on the same rows of the data."""
        own = self._enumeration(names) if names else None
        num = self.num_particles if own is None else own.num_particles
        first = self._run(stopped=stopped, values=EnumeratedValues(names, (0,), None, own))
        structure = find_structure(*first)
        runs = [first]
        for index in range(1, num):
            given = earlier_draws(runs, own, index) if own else {}
            drawn = draws_of(first[1], given, only=shared_sites(structure, self.share_globals))
            values = EnumeratedValues(names, (index,), None, own)
            runs.append(self._run(drawn, stopped=stopped, values=values, rows=rows_of(first[0])))
        for run in runs[1:]:
            if (other := find_structure(*run)) != structure:
                raise ValueError(
                    "Model and guide must have the same sites for every particle, but had "
                    f"{structure.latent_sites} and then {other.latent_sites}: use one particle."
                )
        return InferenceJoint(runs, structure, own)

    def _run(
        self,
        *contexts: Any,
        stopped: bool = False,
        values: EnumeratedValues | None = None,
        rows: Mapping[str, Tensor] | None = None,
    ) -> Run:
        enumerated = values if values is not None and values.names else None
        with ExitStack() as stack:
            for context in contexts:
                stack.enter_context(context)
            if stopped:
                stack.enter_context(StoppedValues())
            if enumerated:
                stack.enter_context(enumerated.guiding())
            guide_trace = trace_of(self.guide, self.args, self.kwargs)
        if not enumerated:
            with next((c for c in contexts if isinstance(c, ParticlePlate)), nullcontext()):
                return self._run_model(guide_trace, rows), guide_trace
        enumerated.leave_to_model(guide_trace)
        with enumerated.modeling():
            model_trace = self._run_model(guide_trace, rows)
        enumerated.stand_in(model_trace, guide_trace)
        return model_trace, guide_trace

    def _frozen(
        self, live: Trace, joint: InferenceJoint, values: Mapping[str, Tensor] | None = None
    ) -> Trace:
        """The guide run again at the values of a run, with constant parameters; what it states but
        does not draw is that of the run.
        """
        with repeated(), frozen_parameters(), draws_of(live, values):
            trace = trace_of(self.guide, self.args, self.kwargs)
        drawn = [name for name in joint.latent_sites if name not in joint.summed_sites]
        if gone := [name for name in drawn if name not in trace.nodes]:
            raise ValueError(f"The guide drew {gone} in its first run, but not when run again.")
        for name in (*undrawn(live), *joint.summed_sites):
            trace.nodes[name] = live.nodes[name]
        return trace

    def _run_model(self, guide_trace: Trace, rows: Mapping[str, Tensor] | None = None) -> Trace:
        """The model at the draws of a guide; `rows` are those of plates that it alone states."""
        with draws_of(guide_trace, rows=rows), self.stated(), Normalizing(self.log_z, frozen=True):
            return trace_of(self.model, self.args, self.kwargs)

    def _run_forward(self) -> Trace:
        with Drawable():
            return trace_of(DrawnData()(self.model), self.args, self.kwargs)


def _up_to(order: list[str], sites: tuple[str, ...]) -> list[str]:
    """The sites that are drawn before the last of the given ones, and that one: all that these can
    depend on."""
    return order[: 1 + max(order.index(name) for name in sites)]


def _check_pathwise(name: str, site: Message, owner: str) -> None:
    """Raises ValueError for a site that has learnable parameters and draws through which no
    gradient passes.
    """
    if site["fn"].has_rsample or not torch.is_grad_enabled():
        return
    if log_density(site["fn"], site["value"].detach()).requires_grad:
        raise ValueError(no_gradient_message(name, type(base_of(site["fn"])).__name__, owner))
