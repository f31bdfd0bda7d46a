"""The joints of a pair that is given some of the observed sites alone."""

from collections.abc import Mapping
from typing import Any, Self

from dgm_core.modalities import conditioned
from dgm_core.terms import unregistered
from numpyro_dgm.joints.bounded import Bounded
from numpyro_dgm.joints.handlers import GivenDraws, Normalizing, StatedBy
from numpyro_dgm.joints.structure import Trace, random_sites

__all__: list[str] = []  # for the package, not for users


class Conditioned:
    """What joints know of those given some of the observed sites."""

    model: Any
    guide: Any
    params: dict[str, Any]
    args: tuple
    kwargs: dict[str, Any]
    _read: dict[str, Any]
    _run: Any
    traces: Any
    known_size: int | None = None  # of the data, by a term that runs no joint
    log_z: Mapping[str, Any] = {}  # what finds the constants of unnormalized sites
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
        if f"{name}$params" not in self.params:
            known = [key.removesuffix("$params") for key in self.params if "$params" in key]
            raise ValueError(unregistered(name, known))
        return self.params[f"{name}$params"]

    def alone(self) -> tuple[Trace, Trace]:
        """The traces of the model and of the guide in one run of a single particle, the same for
        all terms."""
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

    def stated(self, program: Any, guide_trace: Trace, key: Any) -> Any:
        """The model in which latents have the distributions that the guide gives them, at its
        draws; of joints toward nothing as it is."""
        other, program = self._toward, Normalizing(program, self.log_z, frozen=True)
        if self._bounded:
            program = Bounded(program, self._bounded)
        if other is None:
            return program
        drawn = {name: site["value"] for name, site in random_sites(guide_trace).items()}
        trace = other._guide_at(drawn, key)
        return StatedBy(program, {name: site["fn"] for name, site in random_sites(trace).items()})

    def _guide_at(self, drawn: Mapping[str, Any], key: Any) -> Trace:
        """A run of the guide at given draws."""
        mine: Any = self
        guide = GivenDraws(mine.guide, drawn)
        return self._run(guide, key, mine.params, mine.mutable_state)

    def _alike(self, args: tuple, kwargs: Mapping[str, Any], name: str) -> Self:
        mine: Any = self
        made, key = type(mine), mine.key(name)
        how = ("num_particles", "share_globals", "vectorize", "mutable_state")
        options = {name: getattr(self, name) for name in how} | self._read
        own = made(key, self.params, self.model, self.guide, args, kwargs, **options)
        own.model, own.log_z = self.model, self.log_z  # extended already
        return own
