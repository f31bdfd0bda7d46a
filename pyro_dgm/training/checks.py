"""What can be found out before the first step: data outside their support, a guide that does not
fit its model.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from inspect import getattr_static
from typing import Any

import torch
from pyro.distributions import ExpandedDistribution, Independent, MaskedDistribution
from pyro.poutine.runtime import Message
from torch import Tensor, nn
from torch.distributions import constraints

from dgm_core.training.observations import OPEN, complain
from pyro_dgm.compat import is_batch_norm, validates, validation_unset
from pyro_dgm.joints import Joints
from pyro_dgm.joints.inference import InferenceJoint
from pyro_dgm.joints.reading import observed_mask
from pyro_dgm.joints.structure import random_sites
from pyro_dgm.losses import Loss
from pyro_dgm.nn import evaluation_mode
from pyro_dgm.nn.requirements import check_required, collected_requirements
from pyro_dgm.training.batches import Arrays, Batch, Stream
from pyro_dgm.training.step import Step

__all__: list[str] = []  # for the package, not for users


def check_pair(step: Step, data: Arrays, transform: Any = None) -> None:
    """Raises ValueError where guide and model do not fit each other, or do not fit minibatches."""
    if data.batch_size == data.num_data:
        return
    has_last = (data.num_batches or 0) > data.num_full
    if has_last and data.num_data % data.batch_size == 1 and _normalizes(step):
        raise ValueError(
            "The last batch of an epoch holds a single datum, which batch normalization cannot "
            "use: leave it out by drop_last=True, or choose another batch_size."
        )
    joint = _joint(
        step, data.take(torch.arange(data.batch_size, device=data.device)).transformed(transform)
    )
    structure = joint.structure
    scaled = any(joint.runs[0][0].nodes[name]["scale"] != 1 for name in structure.observed_sites)
    shared = [name for name in structure.global_sites if name in joint.runs[0][0].nodes]
    if shared and not structure.subsampled and not scaled:
        raise ValueError(
            f"The latent sites {shared} lie outside the data plate, and the plate declares only "
            f"the {data.batch_size} data of a "
            f"batch, so that their prior would count {data.num_data / data.batch_size:g} times: "
            f'write plate("data", {data.num_data}, subsample_size=len(x)).'
        )
    other = max(2, data.batch_size // 2) if data.batch_size != 2 else 1
    batch = data.take(torch.arange(other, device=data.device)).transformed(transform)
    try:
        with torch.no_grad(), evaluation_mode(step.model, step.guide):
            step.on(batch, torch.zeros((), dtype=torch.int64, device=data.device))
    except Exception as error:
        if not _runs_alone(step, batch):
            return  # the model itself is written for one batch size
        raise ValueError(
            f"The guide does not follow the batch: at {other} rows instead of {data.batch_size} "
            f"it fails ({error}). Minibatches need a guide whose latents of a datum are amortized, "
            f'or lie one by one (AutoNormal) in plate("data", {data.num_data}, '
            "subsample_size=len(x)); a guide of all latents jointly, such as "
            "AutoMultivariateNormal, needs all the data at once."
        ) from error


def check_observations(
    step: Step, data: Arrays | Stream, transform: Any = None, *, validated: bool = True
) -> None:
    """Raises ValueError for observed values outside the support of their site, and for what the
    model requires of its data, in all data in memory or in the first batch of an iterable.

    Where validation has been switched off, for a site or (not `validated`) for all, it warns.

    Cost:
        one comparison per number where the data are observed as they are, else one run of guide and
        model without gradients through the data.
    """
    sites: list[Message] | None = None
    warned: set[str] = set()
    for batch in data.in_order() if isinstance(data, Arrays) else (data.first(),):
        batch = batch.transformed(transform)
        direct = sites is not None and all("position" in site for site in sites)
        if not direct:
            with collected_requirements() as required, validation_unset():
                nodes = random_sites(_joint(step, batch).runs[0][0]).values()
                for site in nodes:  # some know it no longer outside of this block
                    site["validated"] = validates(site["fn"])
            for requirement in required:
                check_required(*requirement)
            sites = [site for site in nodes if site["is_observed"]]
            for site in () if required else sites:
                _locate(site, batch)
        for site in sites or ():
            value = batch.arrays[site["position"]] if direct else site["value"]
            bad = _outside(site, value)
            if site["name"] not in warned and bad.any():
                fn = _base(site["fn"])
                family, support = type(fn).__name__.strip("_"), str(_data_support(fn))
                example, strict = float(value[bad][0]), validated and site["validated"]
                complain(site["name"], family, support, int(bad.sum()), example, validated=strict)
                warned.add(site["name"])


def check_compared(step: Step, batch: Batch) -> None:
    """Raises ValueError where a loss compares draws of a guide that was left out."""
    compared = [term for _, term in step.loss.terms if term.sites]
    latent = set(_joint(step, batch).latent_sites) if compared else set()
    for term in compared:
        if drawn := sorted(latent & set(term.sites)):
            raise ValueError(
                f"{term!r} compares the guide's draws of {drawn} with the model's, but the guide "
                "was left out."
            )


def check_states(loss: Loss, validation_loss: Loss, updates: Any) -> None:
    """Raises ValueError where what terms keep from step to step, such as critics,
    cannot be kept.
    """
    if loss.stateful and updates.needs_closure:
        raise ValueError(
            "optim calls the loss several times in a step, which a loss with critics, or other "
            "terms that keep something, does not "
            "allow: take one that does not, such as Adam(...)."
        )
    if unknown := sorted(validation_loss.stateful.keys() - loss.stateful.keys()):
        raise ValueError(
            f"validation_loss has {unknown}, which learn while the loss is trained, but the loss "
            "has them not: add them to it."
        )


def _joint(step: Step, batch: Batch) -> InferenceJoint:
    """Guide and model run on a batch as the loss does it with one particle."""
    args, kwargs = batch.form.call(batch.arrays)
    with torch.no_grad(), evaluation_mode(step.model, step.guide), step.handlers(batch.rows):
        joints = Joints(step.model, step.guide, args, kwargs)
        return joints.inference(enumerate=step.loss.enumerated)


def _runs_alone(step: Step, batch: Batch) -> bool:
    args, kwargs = batch.form.call(batch.arrays)
    try:
        with torch.no_grad(), evaluation_mode(step.model), step.handlers(batch.rows):
            step.model(*args, **kwargs)
    except Exception:
        return False
    return True


def _locate(site: Message, batch: Batch) -> None:
    """Notes at a site which array of the batch it observes as it is, if its support is the same for
    all data.
    """
    fixed = not isinstance(getattr_static(type(_base(site["fn"])), "support", None), property)
    if (fixed or not vars(_support(site["fn"]))) and observed_mask(site) is None:
        for position, array in enumerate(batch.arrays):
            if isinstance(array, Tensor) and array is site["value"]:
                site["position"] = position


def _outside(site: Message, value: Tensor) -> Tensor:
    """Where observed values, NaN among them, lie outside the support; of the value's shape."""
    support, family = _support(site["fn"]), type(_base(site["fn"])).__name__.strip("_")
    inside = support.check(value)
    inside = inside.reshape(inside.shape + (1,) * (value.ndim - inside.ndim)).expand(value.shape)
    if family in OPEN:
        ends = getattr(support, "lower_bound", 0.0), getattr(support, "upper_bound", 1.0)
        inside = inside & (value != ends[0]) & (value != ends[1])
    mask = observed_mask(site)
    return ~inside if mask is None else ~inside & mask


def _data_support(fn: Any) -> Any:
    """The support of a distribution, or what it says of data."""
    return getattr(fn, "data_support", None) or fn.support


def _support(fn: Any) -> Any:
    support = _data_support(_base(fn))
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    return support


def _base(fn: Any) -> Any:
    """A distribution without what has been wrapped around it."""
    while isinstance(fn, (Independent, MaskedDistribution, ExpandedDistribution)):
        fn = fn.base_dist
    return fn


def _normalizes(step: Step) -> bool:
    """Whether a network of model or guide normalizes over the batch alone, not over pixels too."""
    parts = (part for network in step.networks for part in network.modules())
    of_maps = nn.BatchNorm2d | nn.BatchNorm3d
    return any(is_batch_norm(part) and not isinstance(part, of_maps) for part in parts)


@contextmanager
def types_explained(arrays: tuple[Any, ...]) -> Iterator[None]:
    """A block whose error about types of numbers says which the data have."""
    try:
        yield
    except RuntimeError as error:
        kinds = sorted({str(array.dtype) for array in arrays if isinstance(array, Tensor)})
        if not any(
            word in str(error) for word in ("dtype", "scalar type", "result type", ("bool tensor"))
        ):
            raise
        raise ValueError(
            f"The model does not take data of type {', '.join(kinds)}: {error}. Pass them in the "
            "precision of its weights, as in x.astype('float32')."
        ) from error
