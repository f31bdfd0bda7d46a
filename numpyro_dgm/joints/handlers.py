"""Effect handlers of the joints: particles and what they share, replay that keeps explicit
subsamples, stopped values, frozen parameters."""

import zlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpyro
from jax import Array
from numpyro.distributions import Independent, MaskedDistribution
from numpyro.primitives import Messenger

from dgm_core.energies import check_stated
from dgm_core.structure import UndrawableError
from numpyro_dgm.compat import is_scanned, mask_of
from numpyro_dgm.conditionals.energy import NormalizedDistribution, UnnormalizedDistribution
from numpyro_dgm.joints.structure import Trace, draws_nothing, random_sites

__all__: list[str] = []  # for the package, not for users


class _InBodies(Messenger):
    """A handler that also acts inside the bodies of `scan` and `cond`, whose statements the
    handlers outside do not see.
    """

    def inside(self) -> Messenger:
        """The handler for a body."""
        raise NotImplementedError

    def process_message(self, msg: dict[str, Any]) -> None:
        if msg["type"] == "control_flow":
            bodies = (0,) if msg["fn"].__name__.startswith("scan") else (1, 2)
            args = enumerate(msg["args"])
            msg["args"] = tuple(self._handled(x) if i in bodies else x for i, x in args)

    def _handled(self, body: Callable) -> Callable:
        def handled(*args: Any) -> Any:
            with self.inside():
                return body(*args)

        return handled


class SharedKeys(_InBodies):
    """Gives plates, and the sites named in `shared`, keys that do not depend on the particle: all
    particles see one minibatch and one draw there."""

    def __init__(self, fn: Callable | None, rng_key: Array, shared: tuple[str, ...] = ()) -> None:
        super().__init__(fn)
        self.rng_key = rng_key
        self.shared = shared

    def inside(self) -> Messenger:
        """Plates alone: the draws of a scan differ from step to step."""
        return SharedKeys(None, self.rng_key)

    def process_message(self, msg: dict[str, Any]) -> None:
        super().process_message(msg)
        sampled = msg["type"] == "sample" and msg["name"] in self.shared
        chosen = msg["type"] == "plate" or sampled
        if chosen and msg["kwargs"].get("rng_key") is None and msg["value"] is None:
            number = zlib.crc32(msg["name"].encode()) % 2**31
            msg["kwargs"]["rng_key"] = jax.random.fold_in(self.rng_key, number)


class GivenDraws(Messenger):
    """Hands out the given values at sample sites; plates without an explicit subsample take the
    given indices, explicit ones stay.

    (Pyro's own replay overrides `plate(subsample=idx)`: pyro#3468.)  The steps of a scan take their
    entries of the values.
    """

    def __init__(
        self,
        fn: Callable | None,
        values: Mapping[str, Array],
        indices: Mapping[str, Array | None] | None = None,
    ) -> None:
        super().__init__(fn)
        self.values = values
        self.indices = indices or {}

    def process_message(self, msg: dict[str, Any]) -> None:
        if msg["type"] == "plate":
            if msg["value"] is None and self.indices.get(msg["name"]) is not None:
                msg["value"] = self.indices[msg["name"]]
        elif msg["type"] == "control_flow":
            msg["kwargs"]["substitute_stack"].append(("substitute", dict(self.values)))
        elif msg["type"] == "sample" and not (msg["is_observed"] or is_scanned(msg)):
            msg["value"] = self.values.get(msg["name"], msg["value"])


class Unconditioned(_InBodies):
    """Ignores the data, which `infer["obs"]` keeps, also inside the bodies of scans: their later
    steps follow what was drawn. (NumPyro's own draws the sites of a scan after all steps have seen
    the data.)
    """

    def inside(self) -> Messenger:
        """For the steps of a body."""
        return _UnconditionedStep()

    def process_message(self, msg: dict[str, Any]) -> None:
        super().process_message(msg)
        if msg["type"] != "sample":
            return
        if is_scanned(msg) and msg["infer"].get("was_observed"):
            msg["infer"], msg["args"] = {**msg["infer"], "obs": msg["args"][0]}, ()
        elif msg["is_observed"]:
            msg["infer"] = {**msg["infer"], "was_observed": True, "obs": msg["value"]}
            msg["is_observed"], msg["value"] = False, None
            if msg["kwargs"].get("rng_key") is None:
                msg["kwargs"]["rng_key"] = numpyro.prng_key()


class _UnconditionedStep(Messenger):
    """Draws the observed sites of one step; their data leave the body as arguments of the site,
    which the scan stacks as it stacks values.
    """

    def process_message(self, msg: dict[str, Any]) -> None:
        if msg["type"] == "sample" and msg["is_observed"]:
            data, shape = msg["value"], msg["kwargs"].get("sample_shape", ())
            msg["infer"] = {**msg["infer"], "was_observed": True}
            msg["is_observed"], msg["args"] = False, (jnp.asarray(data),)
            msg["value"] = msg["fn"](rng_key=numpyro.prng_key(), sample_shape=shape)


class Drawable(Messenger):
    """Says which site it was whose distribution could not be drawn from."""

    asked: tuple[str, str] | None = None

    def process_message(self, msg: dict[str, Any]) -> None:
        if msg["type"] == "sample":
            self.asked = msg["name"], type(msg["fn"]).__name__

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        super().__exit__(kind, error, trace)
        if isinstance(error, NotImplementedError) and self.asked:
            raise UndrawableError(*self.asked, str(error)) from error


class Scored(Messenger):
    """Leaves out the densities of all observed sites but those named."""

    def __init__(self, fn: Callable | None, names: tuple[str, ...]) -> None:
        super().__init__(fn)
        self.names = names

    def process_message(self, msg: dict[str, Any]) -> None:
        observed = msg["type"] == "sample" and msg["is_observed"]
        if observed and msg["name"] not in self.names and not draws_nothing(msg["fn"]):
            msg["fn"] = msg["fn"].mask(False)


class StatedBy(Messenger):
    """Gives the latent sites named other distributions than their own."""

    def __init__(self, fn: Callable | None, fns: Mapping[str, Any]) -> None:
        super().__init__(fn)
        self.fns = fns

    def process_message(self, msg: dict[str, Any]) -> None:
        if msg["type"] == "sample" and msg["name"] in self.fns and not msg["is_observed"]:
            msg["fn"] = self.fns[msg["name"]]


class Normalizing(Messenger):
    """Gives unnormalized sites a constant: a number, or what finds one from the distribution and a
    key."""

    def __init__(
        self, fn: Callable | None, log_z: Mapping[str, Any], *, frozen: bool = False
    ) -> None:
        super().__init__(fn)
        self.log_z, self.frozen = log_z, frozen
        self.met: set[str] = set()

    def process_message(self, msg: dict[str, Any]) -> None:
        found = self.log_z.get(msg["name"]) if msg["type"] == "sample" else None
        if found is not None:
            msg["fn"] = self._stated(msg["name"], msg["fn"], found)

    def _stated(self, site: str, fn: Any, found: Any) -> Any:
        """The distribution with its constant, also beneath masks and event dimensions."""
        if isinstance(fn, Independent):
            inner = self._stated(site, fn.base_dist, found)
            return inner.to_event(fn.reinterpreted_batch_ndims)
        if isinstance(fn, MaskedDistribution):
            return self._stated(site, fn.base_dist, found).mask(mask_of(fn))
        if not isinstance(fn, UnnormalizedDistribution):
            return fn
        self.met.add(site)
        if callable(found):
            log_z = found(fn.alone, numpyro.prng_key())
        else:
            log_z = check_stated(site, fn.alone, found)
        return NormalizedDistribution(fn, log_z, frozen=self.frozen)


class StoppedValues(_InBodies):
    """Cuts the gradient through every latent value that is not reparameterized, or through all that
    are drawn (`every_site`); what follows from draws keeps its gradient."""

    def __init__(self, *, every_site: bool) -> None:
        super().__init__()
        self.every_site = every_site

    def inside(self) -> Messenger:
        """The same."""
        return StoppedValues(every_site=self.every_site)

    def postprocess_message(self, msg: dict[str, Any]) -> None:
        drawn = msg["type"] == "sample" and not (msg["is_observed"] or draws_nothing(msg["fn"]))
        if drawn and (self.every_site or not msg["fn"].has_rsample):
            msg["value"], msg["intermediates"] = jax.lax.stop_gradient(msg["value"]), []


class PlateSizes(_InBodies):
    """Notes the plates of the bodies of scans, which the trace does not hold: name -> declared
    size.
    """

    def __init__(self, fn: Callable | None = None, sizes: dict[str, int] | None = None) -> None:
        super().__init__(fn)
        self.sizes = {} if sizes is None else sizes

    def inside(self) -> Messenger:
        """The same."""
        return PlateSizes(sizes=self.sizes)

    def process_message(self, msg: dict[str, Any]) -> None:
        super().process_message(msg)
        if msg["type"] == "plate":
            self.sizes[msg["name"]] = msg["args"][0]


class WiderPlates(Messenger):
    """Lets plates hold more data than they declare, as predictions may ask."""

    def process_message(self, msg: dict[str, Any]) -> None:
        if msg["type"] == "plate" and msg["value"] is None:
            size, given = msg["args"]
            if given is not None and given > size:
                msg["value"] = jnp.arange(given)


def replayed(model: Callable, guide_trace: Trace) -> GivenDraws:
    """A model at the draws of a guide, on the rows of its plates."""
    drawn = {name: site["value"] for name, site in random_sites(guide_trace).items()}
    plates = {name: site for name, site in guide_trace.items() if site["type"] == "plate"}
    return GivenDraws(model, drawn, {name: site["value"] for name, site in plates.items()})
