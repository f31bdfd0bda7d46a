"""Parts that answer disjoint sites:  q(z) = prod_k q_k(z_k | what is seen of the parts before)."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from pyro import poutine
from pyro.infer.autoguide import AutoDelta, AutoGuide
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import Message
from pyro.poutine.util import site_is_subsample

from dgm_core.arguments import check_callable, check_flag
from dgm_core.guides import LatentSite, Outline, check_stock, named_parts
from dgm_core.vectors import check_unmasked
from pyro_dgm.guides.amortized import Prior
from pyro_dgm.guides.base import Guide, Part
from pyro_dgm.guides.determined import Determined
from pyro_dgm.guides.program import Call
from pyro_dgm.joints.points import is_point

__all__ = ["CompositeGuide"]


class StockSites(Part):
    """The sites that an automatic guide of the library answers."""

    def __init__(self, name: str, sites: tuple[str, ...], guide: AutoGuide) -> None:
        super().__init__()
        self.name, self.answers = name, sites
        self._guide = (guide,)  # states its own parameters

    def begin(self, call: Call) -> None:
        """Runs it: what it draws beyond the model is stated, the sites are noted."""
        check_stock(self.answers, call.outline.sites)
        call.outside |= dict.fromkeys(self.answers)
        noted = _Noted(self.answers)
        with noted:
            self._guide[0](*call.args, **call.kwargs)
        call.kept[self.name] = noted.found

    def answer(self, call: Call, site: LatentSite, fn: Any) -> Any:
        """Its distribution of the site, or its value with the density that it brings."""
        own, value = call.kept[self.name][site.name]
        if not is_point(own):
            return own
        if not isinstance(self._guide[0], AutoDelta):
            check_unmasked(site.name, call.masked)
        batch = value.shape[: value.ndim - fn.event_dim]
        return Determined(value, own.log_prob(value).expand(batch), fn.event_dim)


class _Noted(Messenger):
    """Keeps some sites, and the plates, from whoever is outside."""

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__()
        self.names, self.found = names, dict[str, tuple[Any, Any]]()

    def _pyro_sample(self, msg: Message) -> None:
        if msg["name"] in self.names or site_is_subsample(msg):
            msg["stop"] = True

    def _pyro_post_sample(self, msg: Message) -> None:
        if msg["name"] in self.names:
            self.found[msg["name"]] = msg["fn"], msg["value"]


class CompositeGuide(Guide):
    """Parts that answer disjoint sites of one model, each in its own way.

    Parts are built in the order in which they are given, and an amortized part sees the joint
    vectors before it.  Sites that nobody names keep the model's own conditional.

    Args:
        model: any callable of sample statements.
        parts: {site, or tuple of sites: `JointGuide.part(...)`, `AmortizedGuide.part(...)`,
            `Prior()`, or what builds one of the library's automatic guides of a model, such as
            `AutoNormal`}.  An `AutoDelta` brings no density: losses take it, weights refuse it.
        complete: whether sites that nobody names are refused.
        name: of its parameters and auxiliary sites.

    Raises:
        ValueError: for bad arguments, unknown sites, sites named twice, parts that answer others
            than the sites that they are given, and automatic guides of sites in a subsampled plate.

    Example:
        >>> from pyro_dgm.guides import AmortizedGuide, JointGuide, Merged
        >>> def model(x):
        ...     mu = pyro.sample("mu", pyro.distributions.Normal(0.0, 1.0))
        ...     with pyro.plate("data", len(x)):
        ...         z = pyro.sample("z", pyro.distributions.Normal(mu, 1.0))
        ...         pyro.sample("x", pyro.distributions.Normal(z, 1.0), obs=x)
        >>> local = AmortizedGuide.part(torch.nn.Linear(1, 3), {"z": Merged()})
        >>> guide = CompositeGuide(model, {"mu": JointGuide.part(), "z": local})
        >>> guide(torch.ones(4))["z"].shape
        torch.Size([4])
    """

    def __init__(
        self,
        model: Callable,
        parts: Mapping[str | tuple[str, ...], Any],
        *,
        complete: bool = False,
        name: str = "composite",
    ) -> None:
        self.complete = check_flag("complete", complete)
        found = named_parts(parts, Prior)
        self._named = {site for sites, _ in found for site in sites}
        factories = [partial(_part, sites=sites, factory=one) for sites, one in found]
        super().__init__(model, factories, name=name)

    def _build(self, outline: Outline, args: tuple, kwargs: Mapping[str, Any]) -> None:
        outline.check_named(self._named, complete=self.complete)
        super()._build(outline, args, kwargs)


def _part(
    guide: Guide,
    outline: Outline,
    args: tuple,
    kwargs: Mapping[str, Any],
    *,
    sites: tuple[str, ...],
    factory: Any,
) -> Part | None:
    """The part of some sites."""
    if isinstance(factory, Prior):
        return None
    if isinstance(factory, partial) and "sites" in factory.keywords:
        part = factory(guide, outline, args, kwargs, sites=sites)
    else:
        exposed = poutine.block(guide.model, hide_fn=_hides(sites))
        stock = check_callable("what builds a part", factory)(exposed)
        if not isinstance(stock, AutoGuide):
            raise ValueError(
                f"The part of {sites} must be JointGuide.part(...), AmortizedGuide.part(...), "
                f"Prior() or what builds an automatic guide of a model, got {factory!r}."
            )
        return StockSites(f"{guide.name}.stock{len(guide.parts)}", sites, stock)
    if part is None or set(part.answers) != set(sites):
        answered = [] if part is None else list(part.answers)
        raise ValueError(f"The part of {sites} answers {answered}: name the sites it answers.")
    return part


def _hides(sites: tuple[str, ...]) -> Callable[[Message], bool]:
    return lambda msg: msg["type"] == "sample" and msg["name"] not in sites
