"""The two joints that every loss compares.

The inference joint q(x, z) = p_data(x) q(z | x): the guide runs on the data and the model is
replayed against it.  The generative joint p(x, z) = p(z) p(x | z): the model runs forward and
ignores the data. Each runs at most once per step, when the first term asks for it, and terms read
from it by site name.
"""

import zlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from numpyro import handlers

from dgm_core.enumeration import Enumeration
from dgm_core.guides import extended
from numpyro_dgm.compat import is_scanned
from numpyro_dgm.joints.conditioned import Conditioned
from numpyro_dgm.joints.enumerated import EnumeratedValues, leave_to_model, numbered, stand_in
from numpyro_dgm.joints.handlers import (
    Drawable,
    GivenDraws,
    PlateSizes,
    SharedKeys,
    StoppedValues,
    Unconditioned,
    replayed,
)
from numpyro_dgm.joints.inference import InferenceJoint, rescaled
from numpyro_dgm.joints.particles import map_particles, map_values, mean_over_particles
from numpyro_dgm.joints.reading import Runs, read_particle, side_by_particle
from numpyro_dgm.joints.structure import (
    Structure,
    Trace,
    declared_size,
    find_structure,
    mutable_sites,
    no_gradient_message,
    random_sites,
)
from numpyro_dgm.joints.values import base_of, side_by_side, with_vectors
from numpyro_dgm.nn import evaluation_mode
from numpyro_dgm.nn.register import check_tied, shared_places
from numpyro_dgm.nn.states import repeated

__all__ = ["Joints"]


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
        rng_key: Array,
        params: Mapping[str, Any],
        model: Callable,
        guide: Callable,
        args: tuple = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        num_particles: int = 1,
        share_globals: bool = False,
        vectorize: bool | None = None,
        analytic_kl: bool = False,
        objectives: tuple[Any, ...] = (),
        mutable_state: Mapping[str, Any] | None = None,
    ) -> None:
        self._keys = dict(
            zip(("particles", "shared", "generative"), jax.random.split(rng_key, 3), strict=True)
        )
        self.params = dict(params)
        self.model = extended(model, guide)
        self.guide = guide
        self.args = args
        self.kwargs = dict(kwargs or {})
        self.num_particles = num_particles
        self.share_globals = share_globals
        self.vectorize = vectorize
        self.mutable_state = dict(mutable_state or {})
        self.states: dict[Any, Any] = {}  # what terms keep from step to step, by term
        self._read: dict[str, Any] = {"analytic_kl": analytic_kl, "objectives": objectives}
        self._rng_key = rng_key
        self._inference: dict[Any, InferenceJoint] = {}
        self._forward: list[Trace] = []
        self.outputs: dict[Any, tuple[Array, Array]] = {}  # of critics in their updates, by term

    def inference(
        self, *, stopped: bool = False, enumerate: tuple[str, ...] = ()
    ) -> InferenceJoint:
        """Guide on data, model replayed against it; with `stopped` no gradient flows through the
        drawn values; the sites named in `enumerate` take each of their values, those that the guide
        does not draw among them."""
        if (stopped, enumerate) not in self._inference:
            shared, own = self._shared_sites(enumerate)
            how = {"stopped": stopped, "shared": shared, "names": enumerate}
            joint = self._joint(lambda key, numbers: self._particle(key, numbers, **how), own)
            mutable = joint.runs.record["mutable"]
            if not self._inference and mutable:
                averaged = jax.tree.map(mean_over_particles, mutable)
                self.mutable_state = {**self.mutable_state, **averaged}
            self._inference[stopped, enumerate] = joint
        return self._inference[stopped, enumerate]

    def traces(self) -> tuple[Trace, Trace]:
        """The traces of the model and of the guide in one run, with a single particle."""
        return self._traces(self._keys["particles"])

    def generative(self, index: int = 0) -> Trace:
        """The trace of the model run forward: observed sites are drawn as well (plates keep the
        size of the data); with `index` another such run.
        """
        while (number := len(self._forward)) <= index:
            key = self._keys["generative"]
            key = jax.random.fold_in(key, number) if number else key
            forward = Drawable(Unconditioned(self.model))
            self._forward.append(self._run(forward, key, self.params, self.mutable_state))
            self.mutable_state = {**self.mutable_state, **mutable_sites(self._forward[-1])}
        return self._forward[index]

    def key(self, name: str) -> Array:
        """A random key for what a term of this name draws by itself."""
        return jax.random.fold_in(self._rng_key, zlib.crc32(name.encode()) % 2**31)

    def state(self, term: Any) -> Any:
        """What a term keeps from step to step, as it is in this one; as before the first step where
        nothing is known.
        """
        if term not in self.states:
            self.states[term] = term.init_state(self, key=self.key(term.name))
        return self.states[term]

    @property
    def data_size(self) -> int:
        """The number of data that the plates declare; from whichever joint has run."""
        if self.known_size is not None:
            return self.known_size
        if self._inference or not self._forward:
            return ([*self._inference.values()] or [self.inference()])[0].data_size
        return declared_size(self._forward[0])

    def samples(self, sites: tuple[str, ...]) -> tuple[Array, Array]:
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
                real.append((jnp.asarray(site["infer"]["obs"]), site["fn"].event_dim))
            else:
                joint = self.inference()
                if not joint.is_reparameterized(name):
                    family = joint.distribution_name(name)
                    raise ValueError(no_gradient_message(name, family, "guide"))
                real.append((joint.values(name), site["fn"].event_dim))
        for name in _up_to(list(nodes), sites):
            fn = nodes[name]["fn"]
            if not fn.has_rsample and is_learned(self, fn):
                raise ValueError(no_gradient_message(name, type(base_of(fn)).__name__, "model"))
        fake = [(nodes[name]["value"], nodes[name]["fn"].event_dim) for name in sites]
        fns = [nodes[name]["fn"] for name in sites]
        data, drawn = (side_by_side(list(map(with_vectors, x, fns))) for x in (real, fake))
        return data if jnp.issubdtype(data.dtype, jnp.floating) else data.astype(drawn.dtype), drawn

    def prior(self, names: tuple[str, ...]) -> dict[str, Array]:
        """Draws of latent sites by the model alone, as many as the guide's, shaped as
        `InferenceJoint.entries`; no gradient passes."""
        joint = self.inference()
        structure, event_dims = joint.structure, joint.runs.layout.event_dims

        def draw(key: Array) -> dict[str, Array]:
            forward = Drawable(Unconditioned(self.model))
            trace = self._run(forward, key, self.params, self.mutable_state)
            return {name: trace[name]["value"] for name in names}

        keys = jax.random.split(self.key("prior"), self.num_particles)
        drawn = jax.lax.stop_gradient(map_particles(draw, keys, vectorize=self.vectorize))
        sizes = {name: None if name in structure.global_sites else joint.sizes for name in names}
        return {
            name: side_by_particle(drawn[name], event_dims[name], structure, sizes[name])
            for name in names
        }

    def redrawn(self, sites: tuple[str, ...], num: int) -> Array:
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
        return jnp.stack(draws)

    def with_frozen_guide(self, joint: InferenceJoint) -> InferenceJoint:
        """The same draws, with q(z | x) scored under constant guide parameters: gradients reach the
        guide only along the path through z, and through what it states but does not draw."""
        return self._rescored(joint, {}).with_shares_of(joint)

    def rescored(
        self, joint: InferenceJoint, weights: Array, sites: tuple[str, ...]
    ) -> InferenceJoint:
        """Model and frozen guide scored at the draws, with the gradient through `sites` multiplied
        by constant weights w, or by 1 - s (1 - w) where log q counts s times (0 under a mask).

        Shapes:
            weights (num_particles, *sizes), or (num_particles,) for those of the whole joint.
        """
        weights = joint.path_weights(weights, sites)
        drawn = [name for name in sites if not joint.is_determined(name)]
        values = {name: rescaled(joint, weights, name) for name in drawn}
        return self._rescored(joint, values)

    def _rescored(self, joint: InferenceJoint, values: Mapping[str, Array]) -> InferenceJoint:
        structure, drawn = joint.structure, joint.runs.record["values"] | values
        undrawn = [name for name in joint.latent_sites if joint.is_determined(name)]
        given = {
            name: value
            for name, value in drawn.items()
            if name not in (*undrawn, *joint.summed_sites)
        }
        undrawn += structure.local_factors + structure.global_factors
        how = {"undrawn": tuple(undrawn), "names": joint.enumerated_sites}

        def particle(key: Array, numbers: dict[str, Array], values: dict[str, Array]) -> Runs:
            return self._particle(key, numbers, values=values, **how)

        return self._joint(particle, joint.enumeration, given)

    def _joint(
        self, particle: Callable, enumeration: Enumeration | None, *mapped: Any
    ) -> InferenceJoint:
        """Runs one particle, or maps over all of them; the layout is the same for each and leaves
        the map on the side.
        """
        layouts = []

        def run(key: Array, *mapped: Any) -> Mapping[str, Any]:
            runs = particle(key, *mapped)
            layouts.append(runs.layout)
            return runs.record

        key, num = self._keys["particles"], self.num_particles
        if enumeration is not None:
            keys = jax.random.split(key, num)
            how = {"vectorize": self.vectorize}
            record = map_values(run, keys, enumeration, *mapped, **how)
        elif num == 1:
            record = run(key, {}, *jax.tree.map(lambda x: x[0], mapped))
            record = jax.tree.map(lambda x: jnp.asarray(x)[None], record)
        else:
            keys = jax.random.split(key, num)
            record = map_particles(run, keys, {}, *mapped, vectorize=self.vectorize)
        return InferenceJoint(Runs(layouts[-1], record), enumeration)

    def _particle(self, key: Array, numbers: dict[str, Array], **how: Any) -> Runs:
        model_trace, guide_trace = self._traces(key, numbers=numbers, **how)
        structure = find_structure(model_trace, guide_trace)
        runs = read_particle(model_trace, guide_trace, structure, key=key, **self._read)
        mutable = {**mutable_sites(guide_trace), **mutable_sites(model_trace)}
        return Runs(runs.layout, {**runs.record, "mutable": mutable})

    def _traces(
        self,
        key: Array,
        *,
        stopped: bool = False,
        shared: tuple[str, ...] = (),
        values: Mapping[str, Array] | None = None,
        undrawn: tuple[str, ...] = (),
        names: tuple[str, ...] = (),
        numbers: Mapping[str, Array] | None = None,
        sizes: dict[str, int] | None = None,
    ) -> tuple[Trace, Trace]:
        guide_key, model_key = jax.random.split(key)
        sizes = {} if sizes is None else sizes
        guide = SharedKeys(self.guide, self._keys["shared"], shared)
        guide = EnumeratedValues(guide, names, numbers, guide_key, sizes)
        if values is None:
            with StoppedValues(every_site=stopped):
                guide_trace = self._run(guide, guide_key, self.params, self.mutable_state)
        else:
            live: Trace = {}  # what the guide states but does not draw, not frozen
            if undrawn:
                with repeated():
                    live = self._run(
                        GivenDraws(guide, values), guide_key, self.params, self.mutable_state
                    )
                live = {name: live[name] for name in undrawn if name in live}
                values = {**{name: site["value"] for name, site in live.items()}, **values}
            frozen = jax.tree.map(jax.lax.stop_gradient, self.params)
            with repeated():
                guide_trace = self._run(
                    GivenDraws(guide, values), guide_key, frozen, self.mutable_state
                )
            guide_trace.update(live)
        leave_to_model(guide_trace, names)
        program = self.stated(self.model, guide_trace, guide_key)
        model = SharedKeys(replayed(program, guide_trace), self._keys["shared"])
        model = EnumeratedValues(model, names, numbers, None, sizes)
        state = {**self.mutable_state, **mutable_sites(guide_trace)}
        model_trace = self._run(model, model_key, self.params, state)
        stand_in(model_trace, guide_trace, sizes)
        check_tied(self.params, shared_places(guide_trace, model_trace))
        return model_trace, guide_trace

    def _shared_sites(self, names: tuple[str, ...]) -> tuple[tuple[str, ...], Enumeration | None]:
        """The global latents, where they must be shared, and how the sites named are enumerated;
        found from the shapes alone, without arithmetic."""
        if not names and (self.num_particles == 1 or not self.share_globals):
            return (), None
        found: list[tuple[Structure, list[str], Enumeration | None]] = []

        def probe() -> None:
            sizes: dict[str, int] = {}
            with evaluation_mode(self.model, self.guide):
                run = self._traces(self._keys["particles"], names=names, sizes=sizes)
            structure = find_structure(*run)
            scanned = [n for n, site in run[1].items() if is_scanned(site)]
            own = numbered(names, structure, run, sizes, self.num_particles) if names else None
            found.append((structure, scanned, own))

        jax.eval_shape(probe)
        structure, scanned, own = found[0]
        shared = structure.global_sites if self.share_globals and structure.subsampled else ()
        if within := sorted(set(shared) & set(scanned)):
            raise ValueError(
                f"The global latents {within} are drawn in a scan, where all particles cannot "
                "share them, as a minibatch asks: use ELBO, or give the plate all its data."
            )
        return shared, own

    def _run(
        self,
        fn: Callable,
        key: Array,
        params: Mapping[str, Any],
        mutable_state: Mapping[str, Any],
    ) -> Trace:
        fn = handlers.substitute(handlers.seed(fn, key), data={**params, **mutable_state})
        plates = PlateSizes(fn)
        trace = handlers.trace(plates).get_trace(*self.args, **self.kwargs)
        for name, size in plates.sizes.items():  # of the bodies of scans, without rows
            trace.setdefault(name, {"type": "plate", "name": name, "args": (size,), "value": None})
        return trace


def is_learned(joints: Joints, fn: Any) -> bool:
    """Whether a distribution, or a value, depends on the parameters: while they are differentiated
    they are tracers of another kind than the key.
    """
    kinds = {type(leaf) for leaf in jax.tree.leaves(joints.params)}
    kinds -= {type(joints._rng_key), type(jnp.zeros(()))}
    return any(type(leaf) in kinds for leaf in jax.tree.leaves(fn))


def _up_to(order: list[str], sites: tuple[str, ...]) -> list[str]:
    """The sites that are drawn before the last of the given ones, and that one: all that these can
    depend on."""
    return order[: 1 + max(order.index(name) for name in sites)]
