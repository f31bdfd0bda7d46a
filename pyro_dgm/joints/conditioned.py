"""The joints of a pair that is given some of the observed sites alone."""

from collections.abc import Mapping
from typing import Any, Self

from dgm_core.modalities import conditioned
from dgm_core.terms import unregistered
from pyro_dgm.joints.bounded import Bounded
from pyro_dgm.joints.handlers import StatedBy
from pyro_dgm.joints.structure import Trace, random_sites, trace_of

__all__: list[str] = []  # for the package, not for users


class Conditioned:
    """What joints know of those given some of the observed sites."""

    model: Any
    guide: Any
    args: tuple
    kwargs: dict[str, Any]
    known_size: int | None = None  # of the data, by a term that runs no joint
    log_z: Mapping[str, Any] = {}  # what finds the constants of unnormalized sites
    num_particles: int
    inference: Any
    generative: Any
    traces: Any
    _inference: dict[Any, Any]  # the joints that have run
    _forward: list[Trace]
    _toward: Any = None  # joints whose guide stands in for the prior
    _bounded: Mapping[str, Any] = {}

    def given(self, names: tuple[str, ...]) -> Self:
        """The joints of the same pair that is given some of the observed sites alone; themselves of
        no names.

        Raises:
            ValueError: for a guide that does not say how (`dgm_core.modalities.conditioned`).
        """
        self._others: dict[Any, Any] = getattr(self, "_others", {})
        if names and names not in self._others:
            args, kwargs = conditioned(self.guide, names, self.args, self.kwargs)
            self._others[names] = self._alike(args, kwargs, ", ".join(names))
        return self._others[names] if names else self

    def network(self, name: str) -> Any:
        """A network that model or guide registers, with its weights in this step.

        Raises:
            ValueError: for a name that neither registers.
        """
        joints = self._inference.values()
        runs = [*self._forward, *(trace for joint in joints for run in joint.runs for trace in run)]
        for traces in (lambda: runs or [self.generative()], self.traces):
            found = {key: net for trace in traces() for key, net in trace.networks.items()}
            if name in found:
                return found[name]
        raise ValueError(unregistered(name, found))

    def alone(self) -> tuple[Trace, Trace]:
        """The traces of the model and of the guide in one run of a single particle, the same for
        all terms."""
        if self.num_particles == 1:
            return self.inference().runs[0]
        self._traced: Any = getattr(self, "_traced", None) or self.traces()
        return self._traced

    def toward(self, names: tuple[str, ...]) -> Self:
        """The joints of the guide and of the model in which every latent has the distribution of
        the guide given some of the observed sites in place of its own; themselves of no names."""
        key = ("toward", *names)
        self._others = getattr(self, "_others", {})
        if names and key not in self._others:
            own = self._alike(self.args, self.kwargs, " ".join(key))
            own._toward = self.given(names)
            self._others[key] = own
        return self._others[key] if names else self

    def bounded(self, names: tuple[str, ...], **options: Any) -> Self:
        """The joints of guide and model in which the sites named are scored by an estimate of a
        bound on their log-density, which their distributions bring as `bound(value, **options)`.
        """
        key = ("bounded", *names, *sorted(options.items()))
        self._others = getattr(self, "_others", {})
        if key not in self._others:
            own = self._alike(self.args, self.kwargs, " ".join(map(str, key)))
            own._toward, own._bounded = self._toward, dict.fromkeys(names, options)
            self._others[key] = own
        return self._others[key]

    def stated(self) -> StatedBy | Bounded:
        """What gives latents their distributions, at the draws that are handed out; of joints
        toward nothing their own."""
        if self._toward is None:
            return Bounded(self._bounded)
        trace: Trace = trace_of(self._toward.guide, self._toward.args, self._toward.kwargs)
        return StatedBy({name: site["fn"] for name, site in random_sites(trace).items()})

    def _alike(self, args: tuple, kwargs: Mapping[str, Any], _: str) -> Self:
        made: Any = type(self)
        how = ("num_particles", "share_globals", "vectorize")
        options = {name: getattr(self, name) for name in how}
        own = made(self.model, self.guide, args, kwargs, **options)
        own.model, own.log_z = self.model, self.log_z  # extended already
        return own
