"""Effect handlers of the joints: particles and what they share, replay that keeps explicit
subsamples, stopped values, frozen parameters."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from pyro.distributions import Independent, MaskedDistribution, Unit
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import Message
from pyro.poutine.util import site_is_subsample
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from dgm_core.energies import check_stated
from dgm_core.structure import UndrawableError
from pyro_dgm.compat import is_computed, mask_of, tree_map
from pyro_dgm.conditionals.energy import NormalizedDistribution, UnnormalizedDistribution
from pyro_dgm.joints.structure import Trace, draws_nothing, random_sites

__all__: list[str] = []  # for the package, not for users


class ParticlePlate(Messenger):
    """Draws every latent site `num_particles` times, along dimension -(batch_ndim + 1); the sites
    in `shared` once for all particles. Data that are missing, where the distribution of an observed
    site says that it draws them (`draws_missing`), are drawn as often.

    Cost:
        one vectorized pass; the user's networks see the particles as a leading dimension.
    """

    def __init__(
        self, num_particles: int, batch_ndim: int, *, shared: tuple[str, ...] = ()
    ) -> None:
        super().__init__()
        self.num_particles = num_particles
        self.batch_ndim = batch_ndim
        self.shared = shared

    def _pyro_sample(self, msg: Message) -> None:
        if msg["done"] or site_is_subsample(msg):
            return
        if msg["is_observed"] and not getattr(msg["fn"], "draws_missing", False):
            return
        if msg["name"] not in self.shared:
            batch = tuple(msg["fn"].batch_shape)[-self.batch_ndim :] if self.batch_ndim else ()
            ones = [1] * (self.batch_ndim - len(batch))
            msg["fn"] = msg["fn"].expand((self.num_particles, *ones, *batch))


class GivenDraws(Messenger):
    """Hands out the given values at sample sites; plates without an explicit subsample take the
    given indices, explicit ones stay.

    (Pyro's own replay overrides `plate(subsample=idx)`: pyro#3468.)
    """

    def __init__(
        self, values: Mapping[str, Tensor], indices: Mapping[str, Tensor | None] | None = None
    ) -> None:
        super().__init__()
        self.values = values
        self.indices = indices or {}

    def _pyro_sample(self, msg: Message) -> None:
        if site_is_subsample(msg):
            if msg["value"] is None and self.indices.get(msg["name"]) is not None:
                msg["value"] = self.indices[msg["name"]]
                msg["done"] = True
        elif msg["name"] in self.values and not msg["is_observed"]:
            msg["value"] = self.values[msg["name"]]
            msg["done"] = True


def draws_of(
    trace: Trace,
    values: Mapping[str, Tensor] | None = None,
    only: tuple[str, ...] | None = None,
    rows: Mapping[str, Tensor] | None = None,
) -> GivenDraws:
    """What hands out the latent values of a trace (or `only` some) and the rows of its plates, of
    other plates those given."""
    drawn = {name: site["value"] for name, site in random_sites(trace).items()}
    drawn = drawn if only is None else {name: drawn[name] for name in only}
    return GivenDraws({**drawn, **(values or {})}, {**(rows or {}), **rows_of(trace)})


def rows_of(trace: Trace) -> dict[str, Tensor]:
    """The rows that the plates of a trace hold."""
    sites = trace.nodes.items()
    return {name: site["value"] for name, site in sites if site_is_subsample(site)}


class Drawable(Messenger):
    """Says which site it was whose distribution could not be drawn from."""

    asked: tuple[str, str] | None = None

    def _pyro_sample(self, msg: Message) -> None:
        self.asked = msg["name"], type(msg["fn"]).__name__

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        super().__exit__(kind, error, trace)
        if isinstance(error, NotImplementedError) and self.asked:
            raise UndrawableError(*self.asked, str(error)) from error


class DrawnData(Messenger):
    """Draws what is observed; deterministic sites and factors are computed as ever.

    (`poutine.uncondition` draws a deterministic site from its Delta, once for every datum of a
    plate that it lies in.)
    """

    def _pyro_sample(self, msg: Message) -> None:
        computed = is_computed(msg) or isinstance(msg["fn"], Unit)
        if msg["is_observed"] and not computed:
            msg["is_observed"], msg["done"] = False, False
            msg["infer"]["was_observed"], msg["infer"]["obs"] = True, msg["value"]
            msg["value"] = None


class Scored(Messenger):
    """Leaves out the densities of all observed sites but those named."""

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__()
        self.names = names

    def _pyro_sample(self, msg: Message) -> None:
        computed = is_computed(msg) or isinstance(msg["fn"], Unit) or site_is_subsample(msg)
        if msg["is_observed"] and not computed and msg["name"] not in self.names:
            msg["mask"] = False


class StatedBy(Messenger):
    """Gives the latent sites named other distributions than their own."""

    def __init__(self, fns: Mapping[str, Any]) -> None:
        super().__init__()
        self.fns = fns

    def _pyro_sample(self, msg: Message) -> None:
        if msg["name"] in self.fns and not msg["is_observed"]:
            msg["fn"] = self.fns[msg["name"]]


class Normalizing(Messenger):
    """Gives unnormalized sites a constant: a number, or what finds one from the distribution."""

    def __init__(self, log_z: Mapping[str, Any], *, frozen: bool = False) -> None:
        super().__init__()
        self.log_z, self.frozen = log_z, frozen
        self.met: set[str] = set()

    def _pyro_sample(self, msg: Message) -> None:
        if (found := self.log_z.get(msg["name"])) is not None:
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
        log_z = found(fn.alone) if callable(found) else check_stated(site, fn.alone, found)
        return NormalizedDistribution(fn, log_z, frozen=self.frozen)


class StoppedValues(Messenger):
    """Cuts the gradient through every latent value that is drawn, which leaves the score function
    as the only road to the guide; what follows from draws keeps its gradient."""

    def _pyro_post_sample(self, msg: Message) -> None:
        drawn = not msg["is_observed"] and not draws_nothing(msg["fn"])
        if drawn and isinstance(msg["value"], Tensor):
            msg["value"] = msg["value"].detach()


class _FrozenModules(TorchFunctionMode):
    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        def stop(x: Any) -> Any:
            return x.detach() if isinstance(x, nn.Parameter) else x

        return func(*tree_map(stop, args), **tree_map(stop, kwargs or {}))


class _FrozenParams(Messenger):
    def _pyro_post_param(self, msg: Message) -> None:
        if not isinstance(msg["value"], nn.Parameter):  # a module's own: frozen where it is used
            msg["value"] = msg["value"].detach()


@contextmanager
def frozen_parameters() -> Iterator[None]:
    """Within this context every learnable parameter, of a module or from `pyro.param`, is a
    constant: gradients flow through values only."""
    with _FrozenParams(), _FrozenModules():
        yield


class WiderPlates(Messenger):
    """Lets plates hold more data than they declare, as predictions may ask."""

    def _pyro_sample(self, msg: Message) -> None:
        if site_is_subsample(msg) and msg["value"] is None:
            size, given = msg["fn"].size, msg["fn"].subsample_size
            if given is not None and given > size:
                msg["value"], msg["done"] = torch.arange(given, device=msg["fn"].device), True
