"""What can be found out before the first step: arguments out of range, data outside their support,
a guide that does not fit its model.
"""

from typing import Any

import numpy as np
import torch
from pyro.distributions import ExpandedDistribution, Independent, MaskedDistribution
from pyro.poutine.runtime import Message
from torch import Tensor
from torch.distributions import constraints

from pyro_dgm.joints import Joints
from pyro_dgm.joints.inference import InferenceJoint
from pyro_dgm.joints.reading import observed_mask
from pyro_dgm.joints.structure import random_sites
from pyro_dgm.losses import Loss
from pyro_dgm.nn import evaluation_mode
from pyro_dgm.training.batches import Arrays, Batch, Stream, is_in_memory
from pyro_dgm.training.step import Step

__all__: list[str] = []  # for the package, not for users


def check_arguments(**arguments: Any) -> None:
    """Raises ValueError for an argument of `fit` out of its range, TypeError for a model or guide
    that cannot be called.
    """
    for name in ("model", "guide"):
        if not callable(arguments[name]):
            raise TypeError(f"{name} must be callable, got {type(arguments[name]).__name__}.")
    for name in ("loss", "validation_loss"):
        if not isinstance(arguments[name], Loss):
            raise ValueError(f"{name} must be a loss such as ELBO(), got {arguments[name]!r}.")
    if arguments["num_epochs"] is not None and arguments["num_steps"] is not None:
        raise ValueError(
            "The length of a run is num_epochs or num_steps, not both, "
            f"got {arguments['num_epochs']!r} and {arguments['num_steps']!r}."
        )
    for name in ("num_epochs", "num_steps", "batch_size", "checkpoint_every", "patience"):
        value = arguments[name]
        if value is None and name != "checkpoint_every":
            continue
        if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name} must be an integer of at least 1, got {value!r}.")
    if not isinstance(arguments["seed"], (int, np.integer)) or isinstance(arguments["seed"], bool):
        raise ValueError(f"seed must be an integer, got {arguments['seed']!r}.")
    if arguments["patience"] is not None and arguments["validation"] is None:
        raise ValueError(
            "patience counts epochs without a better validation score: pass validation data as "
            "well."
        )
    if arguments["clip_norm"] is not None and not arguments["clip_norm"] > 0:
        raise ValueError(f"clip_norm must be positive, got {arguments['clip_norm']!r}.")
    if arguments["average"] is not None and not 0 < arguments["average"] < 1:
        raise ValueError(f"average must lie between 0 and 1, got {arguments['average']!r}.")
    for name in ("lr_schedule", "transform"):
        if arguments[name] is not None and not callable(arguments[name]):
            raise ValueError(f"{name} must be callable, got {arguments[name]!r}.")
    if any(not callable(callback) for callback in arguments["callbacks"]):
        raise ValueError(
            f"callbacks must be callables that take the run, got {arguments['callbacks']!r}."
        )
    if arguments["compile"] not in (True, False, "auto"):
        raise ValueError(f'compile must be True, False or "auto", got {arguments["compile"]!r}.')
    if arguments["batch_size"] is not None and not is_in_memory(arguments["data"]):
        raise ValueError(
            "batch_size is for arrays; an iterable gives its own batches, so leave it out."
        )


def check_pair(step: Step, data: Arrays, transform: Any = None) -> None:
    """Raises ValueError where guide and model do not fit each other, or do not fit minibatches."""
    if data.batch_size == data.num_data:
        return
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


def check_observations(step: Step, data: Arrays | Stream, transform: Any = None) -> None:
    """Raises ValueError for observed values outside the support of their site, in all data in
    memory or in the first batch of an iterable.

    Cost: one comparison per number where the data are observed as they are, else one run of guide
        and model without gradients through the data.
    """
    sites: list[Message] | None = None
    for batch in data.in_order() if isinstance(data, Arrays) else (data.first(),):
        batch = batch.transformed(transform)
        direct = sites is not None and all("position" in site for site in sites)
        if not direct:
            nodes = random_sites(_joint(step, batch).runs[0][0]).values()
            sites = [site for site in nodes if site["is_observed"]]
            for site in sites:
                _locate(site, batch)
        for site in sites or ():
            value = batch.arrays[site["position"]] if direct else site["value"]
            bad = _outside(site, value)
            if bad.any():
                raise ValueError(
                    _complaint(site["name"], site["fn"], int(bad.sum()), float(value[bad][0]))
                )


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


def check_states(loss: Loss, validation_loss: Loss, updates: Any, workers: Any) -> None:
    """Raises ValueError where what terms keep from step to step, such as critics,
    cannot be kept.
    """
    if loss.stateful and updates.needs_closure:
        raise ValueError(
            "optim calls the loss several times in a step, which a loss with critics, or other "
            "terms that keep something, does not "
            "allow: take one that does not, such as Adam(...)."
        )
    if loss.stateful and workers.size > 1:
        raise ValueError(
            "A loss with critics, or other terms that keep something, trains in one process: start "
            "this program without torchrun."
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
        return Joints(step.model, step.guide, args, kwargs).inference()


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
    bounds = vars(_support(site["fn"])).values()
    same = all(not isinstance(bound, Tensor) or bound.numel() == 1 for bound in bounds)
    if same and observed_mask(site) is None:
        for position, array in enumerate(batch.arrays):
            if isinstance(array, Tensor) and array is site["value"]:
                site["position"] = position


def _outside(site: Message, value: Tensor) -> Tensor:
    """Where observed values, NaN among them, lie outside the support; of the value's shape."""
    inside = _support(site["fn"]).check(value)
    inside = inside.reshape(inside.shape + (1,) * (value.ndim - inside.ndim)).expand(value.shape)
    mask = observed_mask(site)
    return ~inside if mask is None else ~inside & mask


def _support(fn: Any) -> Any:
    support = fn.support
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    return support


def _complaint(name: str, fn: Any, count: int, example: float) -> str:
    while isinstance(fn, (Independent, MaskedDistribution, ExpandedDistribution)):
        fn = fn.base_dist
    family, advice = type(fn).__name__.strip("_"), "check the data and their scaling"
    if np.isnan(example):
        advice = "remove or fill in what is missing, or leave it out with pyro.poutine.mask"
    elif family == "Bernoulli":
        advice = (
            "binarise the data (transform=binarize) or use a likelihood on [0, 1] such as "
            "ContinuousBernoulli"
        )
    elif family in ("Beta", "Kumaraswamy", "LogitNormal"):
        advice = (
            "dequantize the data (dgm_core.data.dequantize), move them inside, as in 0.001 + "
            "0.998 * x, or use ContinuousBernoulli"
        )
    return (
        f"Site '{name}' observes {example:g}, outside the support of {family} ({fn.support}); "
        f"{count} values of this batch are: {advice}."
    )
