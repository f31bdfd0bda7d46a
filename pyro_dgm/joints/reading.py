"""What is read from a run of guide and model: log-densities and values, by particle and datum."""

from collections.abc import Sequence
from typing import Any

import torch
from pyro.distributions import ExpandedDistribution, Independent, MaskedDistribution
from pyro.distributions.util import scale_and_mask, sum_rightmost
from pyro.poutine.runtime import Message
from torch import Tensor
from torch.distributions import biject_to, kl_divergence

from dgm_core.terms import Asked, check_unmasked, checked_costs
from pyro_dgm.compat import mask_of
from pyro_dgm.conditionals import NoDensityError
from pyro_dgm.conditionals.energy import UnnormalizedDistribution
from pyro_dgm.joints.structure import Structure, step_mask_of, unmasked
from pyro_dgm.joints.values import base_of

__all__: list[str] = []  # for the package, not for users


def side_by_particle(
    value: Tensor, event_dim: int, structure: Structure, sizes: tuple[int, ...] | None
) -> Tensor:
    """A value (num_particles, *batch, *event), of which leading batch dimensions may be missing, as
    (num_particles, *sizes, entries); no sizes: global."""
    ndim = 1 + structure.batch_ndim
    missing = ndim + event_dim - value.ndim
    value = value.reshape((1,) * missing + value.shape)
    kept = [0, *(ndim + dim for dim in structure.plates.values())] if sizes is not None else [0]
    value = value.permute(*kept, *(dim for dim in range(value.ndim) if dim not in kept))
    value = value.reshape(*value.shape[: len(kept)], -1)
    return value.expand(value.shape[0], *(sizes or ()), -1)


def observed_mask(site: Message) -> Tensor | None:
    """Which entries of the value of a site count, to be broadcast to it; None where all do."""
    fn, found = site["fn"], None
    masks = [(site["mask"], fn.event_dim)]
    while fn is not None:
        masks.append((mask_of(fn), len(fn.event_shape)))
        masks.append((step_mask_of(fn), len(fn.event_shape) - 1))
        fn = getattr(fn, "base_dist", None)
    for mask, event_dim in masks:
        if mask is not None and mask is not True:
            mask = torch.as_tensor(mask, device=site["value"].device).bool()
            mask = mask.reshape(mask.shape + (1,) * event_dim)
            found = mask if found is None else found & mask
    return found


def density_scale(site: Message, scale: float | Tensor) -> Any:
    """How often log q of a site counts that has this scale: the scale and the mask around it, to be
    broadcast to its value."""
    if isinstance(scale, Tensor):
        scale = scale.reshape(scale.shape + (1,) * site["fn"].event_dim)
    mask = observed_mask(site)
    return scale if mask is None else scale * mask.to(torch.get_default_dtype())


def log_prob_of(site: Message, *, raw: bool, drawn: bool) -> Tensor:
    """The log-density of the value of a site; `raw` without its mask, `drawn` where it came from
    this distribution itself.
    """
    fn = unmasked(site["fn"]) if raw else site["fn"]
    try:
        if drawn and hasattr(base_of(fn), "check_drawn"):
            base_of(fn).check_drawn()
        return fn.log_prob(seen_value(site))
    except NoDensityError as error:
        raise error.at(site["name"]) from error


def kl_parts(q: Message, p: Message) -> tuple[Tensor, ...]:
    """KL(q, p) of the distributions of a site in guide and model, under the masks that p's brings;
    where scales or masks of the two differ, also log q at the draw, under q's masks and under p's.

    Raises NotImplementedError where there is no closed form.
    """
    if _masked_inside(q["fn"]) or _masked_inside(p["fn"]):
        return _parts(q["fn"], p["fn"], q["value"])
    (q_fn, *q_masks), (p_fn, *p_masks) = _bare(q["fn"]), _bare(p["fn"])
    kl = _under(p_masks, kl_divergence(q_fn, p_fn))
    difference = q["scale"] - p["scale"]
    masks = zip([q["mask"], *q_masks], [p["mask"], *p_masks], strict=False)
    alike = len(q_masks) == len(p_masks) and all(own is other for own, other in masks)
    if alike and not isinstance(difference, Tensor) and difference == 0:
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


def _parts(q: Any, p: Any, value: Tensor) -> tuple[Tensor, ...]:
    """The three of `kl_parts` where there are masks inside the events."""
    (q_fn, *q_masks), (p_fn, *p_masks) = (
        _bare(q, ExpandedDistribution),
        _bare(p, ExpandedDistribution),
    )
    parts: tuple[Tensor, ...]
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
    shape = torch.broadcast_shapes(q.batch_shape, p.batch_shape)
    kl, own_log_q, other_log_q = (
        part.expand(torch.broadcast_shapes(part.shape, shape)) for part in parts
    )
    return _under(p_masks, kl), _under(q_masks, own_log_q), _under(p_masks, other_log_q)


def _under(masks: Sequence[Tensor | bool], log_prob: Tensor) -> Tensor:
    for mask in masks:
        log_prob = scale_and_mask(log_prob, mask=mask)
    return log_prob


def seen_value(site: Message) -> Any:
    """The value of a site; of an observed one without what lies beneath a mask, which is replaced
    by something in the support, so that neither the log-density nor its gradient depends on it.
    """
    fn, value = site["fn"], site["value"]
    if not (site["is_observed"] and isinstance(value, Tensor)):
        return value
    mask = observed_mask(site)
    return value if mask is None else torch.where(mask, value, _feasible(fn.support, value))


def total_log_prob(site: Message) -> Tensor:
    """The log-density of a site in all, with its scale and mask, a number."""
    return scale_and_mask(site["fn"].log_prob(seen_value(site)), site["scale"], site["mask"]).sum()


def costs_of(site: Message, asked: Asked) -> dict[str, Tensor]:
    """What the distribution of a site answers, (*batch,) each by name; {} for one that has no such
    method.
    """
    value, fn = seen_value(site), site["fn"]
    check_unmasked(asked, site["mask"])
    return _costs(asked, fn, value, value.ndim - fn.event_dim)


def _costs(asked: Asked, fn: Any, value: Tensor, batch_ndim: int) -> dict[str, Tensor]:
    if hasattr(fn, asked.method):
        found = getattr(fn, asked.method)(value, **dict(asked.options))
        return checked_costs(asked, found, batch_ndim)
    if not isinstance(fn, Independent | MaskedDistribution | ExpandedDistribution):
        return {}
    if isinstance(fn, Independent):
        own = fn.reinterpreted_batch_ndims
        costs = _costs(asked, fn.base_dist, value, batch_ndim + own)
        return {part: sum_rightmost(cost, own) for part, cost in costs.items()}
    costs = _costs(asked, fn.base_dist, value, batch_ndim)
    mask = mask_of(fn)
    check_unmasked(asked, mask)
    return {part: scale_and_mask(cost, mask=mask) for part, cost in costs.items()}


def log_density(fn: Any, value: Tensor) -> Tensor:
    """log p of values, up to a constant where the distribution knows no more."""
    if isinstance(fn, Independent):
        return sum_rightmost(log_density(fn.base_dist, value), fn.reinterpreted_batch_ndims)
    if isinstance(fn, MaskedDistribution):
        found = log_density(fn.base_dist, value)
        return found if (mask := mask_of(fn)) is None else torch.where(mask, found, 0.0)
    if isinstance(fn, UnnormalizedDistribution):
        return fn.unnormalized_log_prob(value)
    return fn.log_prob(value)


def _feasible(support: Any, like: Tensor) -> Tensor:
    """Some value in a support, in the shape of `like`."""
    try:
        transform = biject_to(support)
        return transform(like.new_zeros(transform.inverse_shape(like.shape))).to(like.dtype)
    except NotImplementedError:  # discrete
        event_dim = support.event_dim
        while hasattr(support, "base_constraint"):
            support = support.base_constraint
        value = torch.zeros_like(like) + getattr(support, "lower_bound", 0)
        if support.event_dim == 1 and event_dim:  # one-hot vectors, counts
            value[..., 0] = getattr(support, "upper_bound", 1)
        return value.to(like.dtype)
