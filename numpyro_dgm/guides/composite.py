"""Parts that answer disjoint sites:  q(z) = prod_k q_k(z_k | what is seen of the parts before)."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array
from numpyro import handlers
from numpyro.infer.autoguide import AutoDelta, AutoGuide
from numpyro.primitives import Messenger

from dgm_core.arguments import check_callable, check_flag
from dgm_core.guides import LatentSite, Outline, check_stock, named_parts
from dgm_core.vectors import check_unmasked
from numpyro_dgm.guides.amortized import Prior
from numpyro_dgm.guides.base import Guide, Part
from numpyro_dgm.guides.determined import Determined
from numpyro_dgm.guides.program import Call
from numpyro_dgm.joints.points import is_point

__all__ = ["CompositeGuide"]


class StockSites(Part):
    """The sites that an automatic guide of the library answers."""

    answers: tuple[str, ...] = eqx.field(static=True)
    name: str = eqx.field(static=True)
    guide: AutoGuide = eqx.field(static=True)  # states its own parameters

    def __init__(self, name: str, sites: tuple[str, ...], guide: AutoGuide) -> None:
        self.name, self.answers, self.guide = name, sites, guide

    def begin(self, call: Call) -> None:
        """Runs it: what it draws beyond the model is stated, the sites are noted."""
        check_stock(self.answers, call.outline.sites)
        call.outside |= dict.fromkeys(self.answers)
        noted = _Noted(self.answers)
        with noted:
            self.guide(*call.args, **call.kwargs)
        call.kept[self.name] = noted.found

    def answer(self, call: Call, site: LatentSite, fn: Any) -> Any:
        """Its distribution of the site, or its value with the density that it brings."""
        own, value = call.kept[self.name][site.name]
        if not is_point(own):
            return own
        if not isinstance(self.guide, AutoDelta):
            check_unmasked(site.name, call.masked)
        batch = value.shape[: value.ndim - fn.event_dim]
        return Determined(value, jnp.broadcast_to(own.log_prob(value), batch), fn.event_dim)


class _Noted(Messenger):
    """Keeps some sites, and the plates, from whoever is outside."""

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__()
        self.names, self.found = names, dict[str, tuple[Any, Any]]()

    def process_message(self, msg: dict[str, Any]) -> None:
        if msg["type"] == "plate" or (msg["type"] == "sample" and msg["name"] in self.names):
            msg["stop"] = True
        if msg["type"] == "sample" and msg.get("stop") and msg["kwargs"].get("rng_key") is None:
            msg["kwargs"]["rng_key"] = jax.random.key(0)  # of a draw that nobody takes

    def postprocess_message(self, msg: dict[str, Any]) -> None:
        if msg["type"] == "sample" and msg["name"] in self.names:
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
        >>> from numpyro_dgm.guides import AmortizedGuide, JointGuide, Merged
        >>> def model(x):
        ...     mu = numpyro.sample("mu", numpyro.distributions.Normal(0.0, 1.0))
        ...     with numpyro.plate("data", len(x)):
        ...         z = numpyro.sample("z", numpyro.distributions.Normal(mu, 1.0))
        ...         numpyro.sample("x", numpyro.distributions.Normal(z, 1.0), obs=x)
        >>> local = AmortizedGuide.part(lambda x: x, {"z": Merged()})
        >>> parts = {"mu": JointGuide.part(), "z": local}
        >>> guide = CompositeGuide(model, parts, key=jax.random.key(0))
        >>> numpyro.handlers.seed(guide, 0)(jnp.ones(4))["z"].shape
        (4,)
    """

    def __init__(
        self,
        model: Callable,
        parts: Mapping[str | tuple[str, ...], Any],
        *,
        complete: bool = False,
        name: str = "composite",
        key: Array | None = None,
    ) -> None:
        self.complete = check_flag("complete", complete)
        found = named_parts(parts, Prior)
        self._named = {site for sites, _ in found for site in sites}
        factories = [partial(_part, sites=sites, factory=one) for sites, one in found]
        super().__init__(model, factories, name=name, key=key)

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
    key: Array | None = None,
) -> Part | None:
    """The part of some sites."""
    if isinstance(factory, Prior):
        return None
    if isinstance(factory, partial) and "sites" in factory.keywords:
        part = factory(guide, outline, args, kwargs, sites=sites, key=key)
    else:
        exposed = handlers.block(guide.model, hide_fn=_hides(sites))
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


def _hides(sites: tuple[str, ...]) -> Callable[[dict[str, Any]], bool]:
    return lambda msg: msg["type"] == "sample" and msg["name"] not in sites
