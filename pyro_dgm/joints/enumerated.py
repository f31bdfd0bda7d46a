"""Discrete latents as particles (see `dgm_core.enumeration`): their values are handed out, a
stand-in scores what the guide does not draw."""

from collections.abc import Iterable, Sequence
from math import log
from typing import Any, ClassVar

import torch
from pyro.distributions import ExpandedDistribution, MaskedDistribution, TorchDistribution
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import Message
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from dgm_core.enumeration import (
    Enumeration,
    check_followers,
    check_unscaled,
    enumeration_of,
    other_values,
    unlisted,
    wanted,
)
from pyro_dgm.joints.structure import (
    Structure,
    Trace,
    draws_nothing,
    kind_of,
    masked_as,
    random_sites,
    sites_of,
)

__all__: list[str] = []  # for the package, not for users


class StandIn(TorchDistribution):
    """The uniform distribution over the listed values of a site, whose draws are handed out."""

    arg_constraints: ClassVar[dict[str, Any]] = {}
    has_rsample = False

    def __init__(self, fn: Any, size: int) -> None:
        super().__init__(fn.batch_shape, fn.event_shape, validate_args=False)
        self.size = size

    def log_prob(self, value: Tensor) -> Tensor:
        """-log C."""
        batch = value.shape[: value.ndim - self.event_dim]
        shape = torch.broadcast_shapes(batch, self.batch_shape)
        return torch.full(shape, -log(self.size), device=value.device)


class EnumeratedValues(Messenger):
    """Hands out the values of the sites named, and lets the particles share the draws before them.

    Args:
        names: of the sites, as `wanted` takes them.
        particles: which particles run.
        batch_ndim: with the particles in dimension -(batch_ndim + 1); None: a single one runs.
        enumeration: how they are numbered; None: values in turn.

    Attributes:
        sizes: how many values each site has, of those met.
        standing: the sites that the guide does not draw.
    """

    def __init__(
        self,
        names: Sequence[str],
        particles: Sequence[int] = (0,),
        batch_ndim: int | None = None,
        enumeration: Enumeration | None = None,
    ) -> None:
        super().__init__()
        self.names, self.particles, self.batch_ndim = names, particles, batch_ndim
        self.enumeration = enumeration
        self.sizes: dict[str, int] = {}
        self.standing: tuple[str, ...] = ()
        self.met: list[str] | None = None  # by the guide, while it runs

    def guiding(self) -> "EnumeratedValues":
        """For a run of the guide."""
        self.met = []
        return self

    def modeling(self) -> "EnumeratedValues":
        """For a run of the model."""
        self.met = None
        return self

    def _pyro_sample(self, msg: Message) -> None:
        if msg["is_observed"] or site_is_subsample(msg) or not wanted(msg["name"], self.names):
            return
        name, fn = msg["name"], msg["fn"]
        msg["infer"] = {key: x for key, x in msg["infer"].items() if key != "enumerate"}
        support = listed(name, fn)
        if self.sizes.setdefault(name, len(support)) != len(support):
            raise ValueError(other_values(name, self.sizes[name], len(support)))
        if self.met is not None and msg["infer"].get("answered") is not False:
            self.met.append(name)
        if not msg["done"]:
            msg["value"], msg["done"] = self._value(name, support, fn), True

    def _value(self, name: str, support: Tensor, fn: Any) -> Tensor:
        if self.enumeration is None:
            numbers = [t % len(support) for t in self.particles]
        else:
            values = self.enumeration.values(name)
            numbers = [values[t] for t in self.particles]
        chosen = support[torch.tensor(numbers, device=support.device)]
        event = tuple(fn.event_shape)
        if self.batch_ndim is None:
            return chosen[0].expand((*fn.batch_shape, *event))
        batch = tuple(fn.batch_shape)[-self.batch_ndim :] if self.batch_ndim else ()
        ones = [1] * (self.batch_ndim - len(batch))
        chosen = chosen.reshape(len(numbers), *[1] * self.batch_ndim, *event)
        return chosen.expand(len(numbers), *ones, *batch, *event)

    def _pyro_post_sample(self, msg: Message) -> None:
        if self.met is None or self.enumeration is None or self.batch_ndim is None:
            return
        if kind_of(msg) != "latent" or wanted(msg["name"], self.names) or draws_nothing(msg["fn"]):
            return
        value, num = msg["value"], self.enumeration.num_particles
        if value.ndim > self.batch_ndim + msg["fn"].event_dim and len(value) == num:
            first = torch.tensor(self.enumeration.sharing(self.met), device=value.device)
            msg["value"] = value.index_select(0, first)

    @property
    def as_numbered(self) -> bool:
        """Whether the sites met are those of the numbering."""
        own = self.enumeration
        return own is None or (
            self.sizes == own.sizes and set(self.standing) == set(dict(own.summed))
        )

    def leave_to_model(self, guide_trace: Trace) -> None:
        """Takes out of the trace of the guide what keeps the model's own distribution in it: such a
        site is summed out."""
        own = [
            name
            for name, site in random_sites(guide_trace).items()
            if site["infer"].get("answered") is False
        ]
        for index, name in enumerate(own):
            if wanted(name, self.names):
                check_followers(name, [n for n in own[index + 1 :] if not wanted(n, self.names)])
                guide_trace.remove_node(name)

    def stand_in(self, model_trace: Trace, guide_trace: Trace) -> None:
        """Puts stand-ins into the trace of the guide for the enumerated sites that it misses."""
        missing = [
            name
            for name, site in random_sites(model_trace).items()
            if name in self.sizes and kind_of(site) == "latent" and name not in guide_trace.nodes
        ]
        for name in missing:
            site = model_trace.nodes[name]
            fn = masked_as(site["fn"], StandIn(site["fn"], self.sizes[name]))
            guide_trace.nodes[name] = {**site, "fn": fn}
        self.standing = tuple(missing)

    def numbered(
        self, structure: Structure, run: tuple[Trace, Trace], num_draws: int
    ) -> Enumeration:
        """How the values of these sites are numbered, from one run of model and guide."""
        for name in self.standing:
            check_unscaled(name, run[0].nodes[name]["scale"] / structure.data_scale)
        sites = sites_of(run[0]), sites_of(run[1])
        return enumeration_of(self.names, self.sizes, structure, sites, self.standing, num_draws)


def listed(name: str, fn: Any) -> Tensor:
    """The values of a discrete distribution, (C, *event)."""
    base = fn
    while isinstance(base, ExpandedDistribution | MaskedDistribution):
        base = base.base_dist
    if not base.has_enumerate_support:
        raise ValueError(unlisted(name, type(base).__name__))
    try:
        support = base.enumerate_support(expand=False)
    except NotImplementedError as error:
        raise ValueError(unlisted(name, type(base).__name__)) from error
    return support.reshape((len(support), *fn.event_shape))


def earlier_draws(
    runs: Sequence[tuple[Trace, Trace]], enumeration: Enumeration, particle: int
) -> dict[str, Tensor]:
    """What a particle that runs by itself shares with those before it."""
    found: dict[str, Tensor] = {}
    met: list[str] = []
    for name, site in random_sites(runs[0][1]).items() if runs else ():
        if name in dict(enumeration.guided):
            met.append(name)
        elif name not in enumeration.sizes and not draws_nothing(site["fn"]):
            first = enumeration.sharing(met)[particle]
            if first != particle:
                found[name] = runs[first][1].nodes[name]["value"]
    return found


def met_before(drawn: Iterable[str], enumeration: Enumeration) -> dict[str, tuple[str, ...]]:
    """The enumerated sites that the guide draws before each of its sites."""
    found: dict[str, tuple[str, ...]] = {}
    met: list[str] = []
    for name in drawn:
        found[name] = tuple(met)
        if name in dict(enumeration.guided):
            met.append(name)
    return found
