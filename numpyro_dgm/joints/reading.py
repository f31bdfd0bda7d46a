"""What is read from a run of guide and model: log-densities and values, by particle and datum."""

import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from numpyro.distributions import (
    ExpandedDistribution,
    Independent,
    MaskedDistribution,
    biject_to,
    kl_divergence,
)
from numpyro.distributions.util import sum_rightmost

from dgm_core.terms import Asked, as_asked, check_unmasked, checked_costs
from numpyro_dgm.compat import mask_of
from numpyro_dgm.conditionals import NoDensityError
from numpyro_dgm.conditionals.energy import UnnormalizedDistribution
from numpyro_dgm.joints.structure import (
    Site,
    Structure,
    Trace,
    draws_nothing,
    plates_of,
    step_mask_of,
    unmasked,
)
from numpyro_dgm.joints.values import base_of

__all__: list[str] = []  # for the package, not for users


@dataclass(frozen=True)
class Drawn:
    """What the guide drew a latent site from."""

    name: str
    is_reparameterized: bool
    is_determined: bool


@dataclass(frozen=True)
class Layout:
    """What is the same for every particle.

    structure: what factorizes;  drawn: latent site -> its distribution in the guide;  model_order,
    guide_order: the latent sites as they were drawn;  all_drawn: those of the guide, with what it
    draws beyond the model;  unscored: (part of the record, site) -> what is raised for one that is
    missing there, as an implicit site is;  event_dims: of every site;  estimated: the sites whose
    densities are.
    """

    structure: Structure
    drawn: Mapping[str, Drawn]
    model_order: tuple[str, ...]
    guide_order: tuple[str, ...]
    all_drawn: tuple[str, ...]
    unscored: Mapping[tuple[str, str], ValueError]
    event_dims: Mapping[str, int]
    estimated: tuple[str, ...]


class Runs(NamedTuple):
    """What was read from the runs of all particles: the layout, and a record of arrays, the
    particles leading.
    """

    layout: Layout
    record: Mapping[str, Any]


def side_by_particle(
    value: Array, event_dim: int, structure: Structure, sizes: tuple[int, ...] | None
) -> Array:
    """A value (num_particles, *batch, *event), of which leading batch dimensions may be missing, as
    (num_particles, *sizes, entries); no sizes: global."""
    ndim = 1 + structure.batch_ndim
    missing = ndim + event_dim - value.ndim
    value = value.reshape(value.shape[0], *(1,) * missing, *value.shape[1:])
    kept = [0, *(ndim + dim for dim in structure.plates.values())] if sizes is not None else [0]
    others = (dim for dim in range(value.ndim) if dim not in kept)
    value = jnp.transpose(value, (*kept, *others))
    value = value.reshape(*value.shape[: len(kept)], -1)
    return jnp.broadcast_to(value, (value.shape[0], *(sizes or ()), value.shape[-1]))


def read_particle(
    model_trace: Trace,
    guide_trace: Trace,
    structure: Structure,
    *,
    analytic_kl: bool,
    objectives: tuple[str | Asked, ...] = (),
    key: Array,
) -> Runs:
    """Everything that terms may ask of one run: the layout and a record of arrays (values, log_p,
    log_q, score, kl, objectives).

    What is not read costs nothing under jit.
    """
    reader = _Reader(model_trace, guide_trace, structure)
    latents, observed = structure.latent_sites, structure.observed_sites
    factors = structure.local_factors + structure.global_factors
    unconstrained = reader.unconstrained(latents)
    answers = reader.objectives(map(as_asked, objectives), key)  # first: may leave densities behind
    record = {
        "objectives": answers,
        "unconstrained": {name: u for name, (u, _) in unconstrained.items()},
        "log_jacobian": {name: log_jacobian for name, (_, log_jacobian) in unconstrained.items()},
        "observed": {name: model_trace[name]["value"] for name in observed},
        "values": {name: guide_trace[name]["value"] for name in latents},
        "log_p": reader.scored(
            "log_p", [n for n in observed + latents + factors if n in model_trace]
        ),
        "log_q": reader.scored("log_q", [n for n in latents + factors if n in guide_trace]),
        "score": reader.scored("score", latents),
        "density_scale": {name: reader.density_scale(guide_trace[name]) for name in latents},
        "kl": reader.scored("kl", latents if analytic_kl else ()),
    }
    return Runs(reader.layout(), record)


class _Reader:
    def __init__(self, model_trace: Trace, guide_trace: Trace, structure: Structure) -> None:
        self.model_trace = model_trace
        self.guide_trace = guide_trace
        self.structure = structure
        self.unscored: dict[tuple[str, str], ValueError] = {}

    def scored(self, which: str, names: Sequence[str]) -> dict[str, Array]:
        """One part of the record, without the implicit sites."""
        score: dict[str, Callable[[str], Array]] = {
            "log_p": lambda name: self.log_prob(self.model_trace[name]),
            "log_q": lambda name: self.log_prob(self.guide_trace[name], drawn=True),
            "score": lambda name: self.log_prob(self.guide_trace[name], raw=True, drawn=True),
            "kl": self.analytic_kl,
        }
        found = {}
        for name in names:
            try:
                found[name] = score[which](name)
            except NoDensityError as error:
                self.unscored[which, name] = error.at(name)
        return found

    def unconstrained(self, names: Sequence[str]) -> dict[str, tuple[Array, Array]]:
        """Latent values on the real line with log |dz/du|, of the sites that the model has and
        whose support can be mapped.
        """
        found = {}
        for name in names:
            if name not in self.model_trace:
                continue
            value, fn = self.guide_trace[name]["value"], self.model_trace[name]["fn"]
            try:
                transform = biject_to(fn.support)
            except NotImplementedError:
                for which in ("unconstrained", "log_jacobian"):
                    self.unscored[which, name] = ValueError(
                        f"Site '{name}' has the support {fn.support}, which is not mapped to the "
                        "real line."
                    )
                continue
            u = transform.inv(value)
            log_jacobian = transform.log_abs_det_jacobian(u, value)
            extra = jnp.ndim(log_jacobian) - (jnp.ndim(value) - fn.event_dim)
            log_jacobian = log_jacobian.sum(tuple(range(-extra, 0))) if extra > 0 else log_jacobian
            found[name] = u, self.reduce(log_jacobian, self.guide_trace[name], scaled=False)
        return found

    def objectives(self, questions: Iterable[Asked], key: Array) -> dict[Any, dict[str, Array]]:
        """What the distributions of sites in model and guide answer, by question."""
        found: dict[Any, dict[str, Array]] = {}
        traces = (self.model_trace, self.guide_trace)
        for asked in questions:
            key_of = jax.random.fold_in(key, zlib.crc32(str(asked).encode()) % 2**31)
            keys = jax.random.split(key_of)
            found[asked.key] = {
                part: self.reduce(cost, trace[asked.site])
                for trace, own in zip(traces, keys)
                if asked.site in trace
                for part, cost in _costs_of(trace[asked.site], asked, own).items()
            }
        return found

    def layout(self) -> Layout:
        latents = self.structure.latent_sites
        fns = {name: self.guide_trace[name]["fn"] for name in latents}
        traces = (self.model_trace, self.guide_trace)
        sites = [(name, site) for trace in traces for name, site in trace.items()]
        return Layout(
            structure=self.structure,
            drawn={
                name: Drawn(type(base_of(fn)).__name__, bool(fn.has_rsample), draws_nothing(fn))
                for name, fn in fns.items()
            },
            model_order=tuple(name for name in self.model_trace if name in latents),
            guide_order=tuple(
                n for n in self.guide_trace if n in latents and n in self.model_trace
            ),
            all_drawn=tuple(name for name in self.guide_trace if name in latents),
            unscored=self.unscored,
            event_dims={name: s["fn"].event_dim for name, s in sites if s["type"] == "sample"},
            estimated=tuple(
                name for name, s in sites if getattr(base_of(s.get("fn")), "is_estimated", False)
            ),
        )

    def log_prob(self, site: Site, *, raw: bool = False, drawn: bool = False) -> Array:
        fn = unmasked(site["fn"]) if raw else site["fn"]
        if drawn and hasattr(base_of(fn), "check_drawn"):
            base_of(fn).check_drawn()
        left = site["intermediates"]  # of the draw: a flow is scored without its inverse
        log_prob = fn.log_prob(site["value"], left) if left else fn.log_prob(site["value"])
        return self.reduce(log_prob, site, scaled=not raw)

    def analytic_kl(self, name: str) -> Array:
        q, p = self.guide_trace[name], self.model_trace.get(name)
        if p is None:
            return self.log_prob(q, drawn=True)
        if draws_nothing(q["fn"]):  # its density is that of what was drawn before
            return self.log_prob(q, drawn=True) - self.log_prob(p)
        try:
            kl, *log_q = kl_parts(q, p)
        except NotImplementedError:
            return self.log_prob(q, drawn=True) - self.log_prob(p)
        kl = self.reduce(kl, p)
        if log_q:
            kl = kl + self.reduce(log_q[0], q) - self.reduce(log_q[1], p)
        return kl

    def reduce(self, log_prob: Array, site: Site, *, scaled: bool = True) -> Array:
        """Sums all dimensions but the data plates': (*sizes), or (1, ..., 1) for a global site."""
        local = site["name"] not in self.structure.global_sites + self.structure.global_factors
        if scaled:
            log_prob = log_prob * self._scale(site, local)
        ndim = self.structure.batch_ndim
        log_prob = log_prob.reshape((1,) * (ndim - log_prob.ndim) + log_prob.shape)
        kept = [ndim + dim for dim in self.structure.plates.values()] if local else []
        shape = list(log_prob.shape)
        for dim, size in zip(kept, self.structure.sizes if kept else (), strict=True):
            shape[dim] = size
        log_prob = jnp.broadcast_to(log_prob, shape).sum(
            tuple(dim for dim in range(ndim) if dim not in kept)
        )
        return log_prob if local else log_prob.reshape((1,) * len(self.structure.sizes))

    def density_scale(self, site: Site) -> Array:
        """How often log q of a site counts, N / B apart: 1, or the scale and the mask around it, to
        be broadcast to its value.
        """
        scale = jnp.asarray(self._scale(site, site["name"] not in self.structure.global_sites))
        scale = scale.reshape(scale.shape + (1,) * site["fn"].event_dim)
        fn = site["fn"]
        while fn is not None:
            if (own := mask_of(fn)) is not None:
                mask = jnp.asarray(own)
                scale = scale * mask.reshape(mask.shape + (1,) * fn.event_dim)
            if (steps := step_mask_of(fn)) is not None:
                scale = scale * steps.reshape(steps.shape + (1,) * (fn.event_dim - 1))
            fn = getattr(fn, "base_dist", None)
        return scale

    def _scale(self, site: Site, local: bool) -> float | Array:
        if not local or self.structure.data_scale == 1:
            return _own_scale(site)
        inside = self.structure.plates.keys() <= plates_of(site).keys()
        if not inside and not draws_nothing(site["fn"]):  # those say themselves how they count
            raise ValueError(self.structure.missing_scale(site["name"]))
        return _own_scale(site) / self.structure.data_scale


def _costs_of(site: Site, asked: Asked, key: Array) -> dict[str, Array]:
    """What the distribution of a site answers, (*batch,) each by name; {} for one that has no such
    method.
    """
    value, fn = site["value"], site["fn"]
    return _costs(asked, fn, value, jnp.ndim(value) - fn.event_dim, key)


def _costs(asked: Asked, fn: Any, value: Array, batch_ndim: int, key: Array) -> dict[str, Array]:
    if (answer := getattr(fn, asked.method, None)) is not None:
        drawn = {"key": key} if "key" in signature(answer).parameters else {}
        return checked_costs(asked, answer(value, **dict(asked.options), **drawn), batch_ndim)
    if not isinstance(fn, Independent | MaskedDistribution | ExpandedDistribution):
        return {}
    if isinstance(fn, Independent):
        own = fn.reinterpreted_batch_ndims
        costs = _costs(asked, fn.base_dist, value, batch_ndim + own, key)
        return {part: sum_rightmost(cost, own) for part, cost in costs.items()}
    costs = _costs(asked, fn.base_dist, value, batch_ndim, key)
    mask = mask_of(fn)
    check_unmasked(asked, mask)
    if mask is None:
        return costs
    return {part: jnp.where(mask, cost, 0.0) for part, cost in costs.items()}


def log_density(fn: Any, value: Array) -> Array:
    """log p of values, up to a constant where the distribution knows no more."""
    if isinstance(fn, Independent):
        return sum_rightmost(log_density(fn.base_dist, value), fn.reinterpreted_batch_ndims)
    if isinstance(fn, MaskedDistribution):
        found = log_density(fn.base_dist, value)
        return found if (mask := mask_of(fn)) is None else jnp.where(mask, found, 0.0)
    if isinstance(fn, UnnormalizedDistribution):
        return fn.unnormalized_log_prob(value)
    return fn.log_prob(value)


def kl_parts(q: Site, p: Site) -> tuple[Array, ...]:
    """KL(q, p) of the distributions of a site in guide and model, under the masks that p's brings;
    where scales or masks of the two differ, also log q at the draw, under q's masks and under p's.

    Raises NotImplementedError where there is no closed form.
    """
    if _masked_inside(q["fn"]) or _masked_inside(p["fn"]):
        return _parts(q["fn"], p["fn"], q["value"])
    (q_fn, *q_masks), (p_fn, *p_masks) = _bare(q["fn"]), _bare(p["fn"])
    kl = _under(p_masks, kl_divergence(q_fn, p_fn))
    difference = _own_scale(q) - _own_scale(p)
    alike = len(q_masks) == len(p_masks)
    alike = alike and all(own is other for own, other in zip(q_masks, p_masks, strict=True))
    if alike and not isinstance(difference, Array) and difference == 0:
        return (kl,)
    log_q = q_fn.log_prob(q["value"])
    return kl, _under(q_masks, log_q), _under(p_masks, log_q)


def _bare(fn: Any, *wrappers: Any) -> tuple[Any, ...]:
    """A distribution without the masks around its events, and these; without such wrappers too."""
    masks = []
    kinds: Any = (MaskedDistribution, *wrappers)
    while isinstance(fn, kinds):
        if isinstance(fn, MaskedDistribution):
            masks.append(mask_of(fn))
        fn = fn.base_dist
    return fn, *masks


def _masked_inside(fn: Any) -> bool:
    """Whether there is a mask below the outermost ones, such as one inside the events."""
    (fn, *_), inside = _bare(fn), False
    while (fn := getattr(fn, "base_dist", None)) is not None and not inside:
        inside = isinstance(fn, MaskedDistribution)
    return inside


def _parts(q: Any, p: Any, value: Array) -> tuple[Array, ...]:
    """The three of `kl_parts` where there are masks inside the events."""
    (q_fn, *q_masks), (p_fn, *p_masks) = (
        _bare(q, ExpandedDistribution),
        _bare(p, ExpandedDistribution),
    )
    parts: tuple[Array, ...]
    if not (_masked_inside(q_fn) or _masked_inside(p_fn)):
        log_q = q_fn.log_prob(value)
        parts = kl_divergence(q_fn, p_fn), log_q, log_q
    elif isinstance(q_fn, Independent) and isinstance(p_fn, Independent):
        own = q_fn.reinterpreted_batch_ndims
        if own != p_fn.reinterpreted_batch_ndims:
            raise NotImplementedError
        found = _parts(q_fn.base_dist, p_fn.base_dist, value)
        parts = tuple(sum_rightmost(part, own) for part in found)
    else:
        raise NotImplementedError
    shape = jnp.broadcast_shapes(q.batch_shape, p.batch_shape)
    kl, own_log_q, other_log_q = (
        jnp.broadcast_to(part, jnp.broadcast_shapes(jnp.shape(part), shape)) for part in parts
    )
    return _under(p_masks, kl), _under(q_masks, own_log_q), _under(p_masks, other_log_q)


def _under(masks: Sequence[Array | bool], log_prob: Array) -> Array:
    for mask in masks:
        log_prob = jnp.where(mask, log_prob, 0.0)
    return log_prob


def _own_scale(site: Site) -> float | Array:
    return 1.0 if site["scale"] is None else site["scale"]
