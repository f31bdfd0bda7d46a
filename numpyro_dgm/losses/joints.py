"""The two joints that every loss compares.

The inference joint q(x, z) = p_data(x) q(z | x): the guide runs on the data and the model is replayed against it.
The generative joint p(x, z) = p(z) p(x | z): the model runs forward and ignores the data.
Each runs at most once per step, when the first term asks for it, and terms read from it by site name.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax import Array
from numpyro import handlers

from numpyro_dgm.losses.handlers import Draws, Particles, StoppedValues
from numpyro_dgm.losses.inference import InferenceJoint
from numpyro_dgm.losses.structure import Structure, Trace, check_sites, find_structure, random_sites
from numpyro_dgm.nn import evaluation_mode

__all__ = ["Joints"]


class Joints:
    """Both joints of one step, run lazily and at most once.

    Args: model and guide, any NumPyro callables, with the arguments `args` and `kwargs` that both take; num_particles, how often the guide draws;
    share_globals, whether global latents are drawn once for all particles when a plate is subsampled, as the importance-weighted bound needs;
    rng_key; params, the constrained values of all parameters; mutable_state, the values of all mutable sites.
    Raises: ValueError when the guide misses a latent site or draws one that the model has not.
    """

    def __init__(
        self,
        rng_key: Array,
        params: Mapping[str, Any],
        model: Callable,
        guide: Callable,
        args: tuple = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        num_particles: int = 1,
        share_globals: bool = False,
        mutable_state: Mapping[str, Any] | None = None,
    ) -> None:
        self._keys = dict(zip(("guide", "model", "generative", "structure"), jax.random.split(rng_key, 4), strict=True))
        self.params = dict(params)
        self.model = model
        self.guide = guide
        self.args = args
        self.kwargs = dict(kwargs or {})
        self.num_particles = num_particles
        self.share_globals = share_globals
        self.mutable_state = dict(mutable_state or {})
        self._inference: dict[bool, InferenceJoint] = {}
        self._generative: Trace | None = None

    def inference(self, *, stopped: bool = False) -> InferenceJoint:
        """Guide on data, model replayed against it; with `stopped` no gradient flows through the drawn values."""
        if stopped not in self._inference:
            structure = self._structure() if self.num_particles > 1 else None
            guide = self.guide
            if structure is not None:
                shared = structure.global_sites if self.share_globals and structure.subsampled else ()
                guide = Particles(guide, self.num_particles, structure.batch_ndim, shared=shared)
            with StoppedValues(every_site=stopped):
                guide_trace = self._run(guide, "guide", self.params, self.mutable_state)
            model_trace = self._run_model(guide_trace, {**self.mutable_state, **mutable_sites(guide_trace)})
            if not self._inference:
                self.mutable_state = {**self.mutable_state, **mutable_sites(guide_trace), **mutable_sites(model_trace)}
            if structure is None:
                structure = find_structure(model_trace, guide_trace)
            self._inference[stopped] = InferenceJoint(model_trace, guide_trace, structure)
        return self._inference[stopped]

    def generative(self) -> Trace:
        """The trace of the model run forward: observed sites are drawn as well (plates keep the size of the data)."""
        if self._generative is None:
            self._generative = self._run(handlers.uncondition(self.model), "generative", self.params, self.mutable_state)
        return self._generative

    def with_frozen_guide(self, joint: InferenceJoint) -> InferenceJoint:
        """The same draws, with q(z | x) scored under constant guide parameters: gradients reach the guide only along the path through z."""
        return InferenceJoint(joint.model_trace, self._rerun_guide(joint, {}), joint.structure)

    def rescored(self, joint: InferenceJoint, values: Mapping[str, Array]) -> InferenceJoint:
        """Model and frozen guide scored at the given `values` of the latent sites."""
        guide_trace = self._rerun_guide(joint, values)
        return InferenceJoint(self._run_model(guide_trace, self.mutable_state), guide_trace, joint.structure)

    def _structure(self) -> Structure:
        found = []

        def probe() -> None:
            with evaluation_mode(self.model, self.guide):
                guide_trace = self._run(self.guide, "structure", self.params, self.mutable_state)
                found.append(find_structure(self._run_model(guide_trace, self.mutable_state), guide_trace))

        jax.eval_shape(probe)
        return found[0]

    def _rerun_guide(self, joint: InferenceJoint, values: Mapping[str, Array]) -> Trace:
        frozen = jax.tree.map(jax.lax.stop_gradient, self.params)
        return self._run(_draws_of(self.guide, joint.guide_trace, values), "guide", frozen, self.mutable_state)

    def _run_model(self, guide_trace: Trace, mutable_state: Mapping[str, Any]) -> Trace:
        trace = self._run(_draws_of(self.model, guide_trace), "model", self.params, mutable_state)
        check_sites(trace, guide_trace)
        return trace

    def _run(self, fn: Callable, key: str, params: Mapping[str, Any], mutable_state: Mapping[str, Any]) -> Trace:
        fn = handlers.substitute(handlers.seed(fn, self._keys[key]), data={**params, **mutable_state})
        return handlers.trace(fn).get_trace(*self.args, **self.kwargs)


def mutable_sites(trace: Trace) -> dict[str, Any]:
    """The values that the mutable sites of a run hold at its end."""
    return {name: site["value"] for name, site in trace.items() if site["type"] == "mutable"}


def _draws_of(fn: Callable, trace: Trace, values: Mapping[str, Array] | None = None) -> Draws:
    drawn = {name: site["value"] for name, site in random_sites(trace).items() if not site["is_observed"]}
    indices = {name: site["value"] for name, site in trace.items() if site["type"] == "plate"}
    return Draws(fn, {**drawn, **(values or {})}, indices)
