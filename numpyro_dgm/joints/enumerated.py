"""Discrete latents as particles (see `dgm_core.enumeration`): their values are handed out, a
stand-in scores what the guide does not draw."""

from collections.abc import Iterable, Mapping, Sequence
from math import log
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from numpyro.distributions import (
    Distribution,
    ExpandedDistribution,
    MaskedDistribution,
    constraints,
)
from numpyro.primitives import Messenger

from dgm_core.enumeration import (
    Enumeration,
    check_followers,
    check_unscaled,
    enumeration_of,
    other_values,
    unlisted,
    wanted,
)
from numpyro_dgm.joints.structure import (
    Structure,
    Trace,
    kind_of,
    masked_as,
    random_sites,
    sites_of,
)
from numpyro_dgm.joints.values import base_of

__all__: list[str] = []  # for the package, not for users


class StandIn(Distribution):
    """The uniform distribution over the listed values of a site, whose draws are handed out."""

    support = constraints.dependent

    def __init__(self, fn: Any, size: int) -> None:
        super().__init__(fn.batch_shape, fn.event_shape, validate_args=False)
        self.size = size

    def log_prob(self, value: Array) -> Array:
        """-log C."""
        batch = jnp.shape(value)[: jnp.ndim(value) - self.event_dim]
        return jnp.full(jnp.broadcast_shapes(batch, self.batch_shape), -log(self.size))


class EnumeratedValues(Messenger):
    """Hands out the values of the sites named in one particle, and lets the particles share the
    draws before them.

    Args:
        fn: the guide, or the model.
        names: of the sites, as `wanted` takes them.
        values: the number of the value of each site; None: the first.
        key: of what the guide draws after these sites; None for a model.

    Attributes:
        sizes: how many values each site has, of those met.
    """

    def __init__(
        self,
        fn: Any,
        names: Sequence[str],
        values: Mapping[str, Array] | None = None,
        key: Array | None = None,
        sizes: dict[str, int] | None = None,
    ) -> None:
        super().__init__(fn)
        self.names, self.values, self.key = names, values, key
        self.sizes = {} if sizes is None else sizes
        self.met, self.drawn = False, 0

    def process_message(self, msg: dict[str, Any]) -> None:
        if msg["type"] == "sample" and not msg["is_observed"] and wanted(msg["name"], self.names):
            self._enumerate(msg)
        elif self.key is not None and self.met and _draws(msg):
            self.drawn += 1
            msg["kwargs"]["rng_key"] = jax.random.fold_in(self.key, self.drawn)

    def _enumerate(self, msg: dict[str, Any]) -> None:
        name, fn = msg["name"], msg["fn"]
        msg["infer"] = {key: x for key, x in msg["infer"].items() if key != "enumerate"}
        support = listed(name, fn)
        if self.sizes.setdefault(name, len(support)) != len(support):
            raise ValueError(other_values(name, self.sizes[name], len(support)))
        number = 0 if self.values is None else self.values[name]
        if self.key is not None and msg["infer"].get("answered") is not False:
            self.met, self.key = True, jax.random.fold_in(self.key, number)
        if msg["value"] is None:
            shape = tuple(fn.batch_shape) + tuple(fn.event_shape)
            msg["value"] = jnp.broadcast_to(support[number], shape)


def _draws(msg: dict[str, Any]) -> bool:
    """Whether a statement is about to be given a random key."""
    keyless = msg["value"] is None and msg["kwargs"].get("rng_key") is None
    return keyless and msg["type"] in ("sample", "control_flow", "prng_key")


def leave_to_model(guide_trace: Trace, names: Sequence[str]) -> None:
    """Takes out of the trace of the guide what keeps the model's own distribution in it: such a
    site is summed out."""
    own = [
        name
        for name, site in random_sites(guide_trace).items()
        if site["infer"].get("answered") is False
    ]
    for index, name in enumerate(own):
        if wanted(name, names):
            check_followers(name, [n for n in own[index + 1 :] if not wanted(n, names)])
            del guide_trace[name]


def stand_in(model_trace: Trace, guide_trace: Trace, sizes: Mapping[str, int]) -> tuple[str, ...]:
    """Puts stand-ins into the trace of the guide for the enumerated sites that it misses, and says
    which these are."""
    missing = [
        name
        for name, site in random_sites(model_trace).items()
        if name in sizes and kind_of(site) == "latent" and name not in guide_trace
    ]
    for name in missing:
        site = model_trace[name]
        fn = masked_as(site["fn"], StandIn(site["fn"], sizes[name]))
        guide_trace[name] = {**site, "fn": fn, "intermediates": []}
    return tuple(missing)


def numbered(
    names: tuple[str, ...],
    structure: Structure,
    run: tuple[Trace, Trace],
    sizes: Mapping[str, int],
    num_draws: int,
) -> Enumeration:
    """How the values of these sites are numbered, from one run of model and guide."""
    standing = [name for name in sizes if isinstance(base_of(run[1][name]["fn"]), StandIn)]
    for name in standing:
        scale = run[0][name]["scale"]
        check_unscaled(name, (1.0 if scale is None else scale) / structure.data_scale)
    sites = sites_of(run[0]), sites_of(run[1])
    return enumeration_of(names, sizes, structure, sites, standing, num_draws)


def as_enumerated(model_trace: Trace, guide_trace: Trace, names: Sequence[str]) -> None:
    """Makes the traces of guide and model run as they are those of a run with enumerated sites."""
    leave_to_model(guide_trace, names)
    for trace in (guide_trace, model_trace):
        for name, site in trace.items():
            if site["type"] == "sample" and wanted(name, names):
                trace[name] = {**site, "infer": {**site["infer"], "enumerate": None}}
    stand_in(model_trace, guide_trace, {name: 1 for name in model_trace if wanted(name, names)})


def listed(name: str, fn: Any) -> Array:
    """The values of a discrete distribution, (C, *event)."""
    base = fn
    while isinstance(base, ExpandedDistribution | MaskedDistribution):
        base = base.base_dist
    if not base.has_enumerate_support:
        raise ValueError(unlisted(name, type(base).__name__))
    try:
        support = jnp.asarray(base.enumerate_support(expand=False))
    except (NotImplementedError, jax.errors.ConcretizationTypeError) as error:
        raise ValueError(unlisted(name, type(base).__name__)) from error
    return support.reshape((len(support), *fn.event_shape))


def met_before(drawn: Iterable[str], enumeration: Enumeration) -> dict[str, tuple[str, ...]]:
    """The enumerated sites that the guide draws before each of its sites."""
    found: dict[str, tuple[str, ...]] = {}
    met: list[str] = []
    for name in drawn:
        found[name] = tuple(met)
        if name in dict(enumeration.guided):
            met.append(name)
    return found
