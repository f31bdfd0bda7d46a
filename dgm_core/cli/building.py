"""From flags to data, model and loss."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from dgm_core.cli.arguments import UsageError
from dgm_core.cli.backend import Backend
from dgm_core.cli.table import BINARY, LIKELIHOODS, LOSSES, MODELS, POSTERIORS, PRIORS, Model
from dgm_core.contexts import Labels
from dgm_core.data import Dataset, binarize, dequantize, load
from dgm_core.schedules import linear

_OPEN = ("beta", "kumaraswamy", "logit_normal")  # densities on (0, 1), without its ends
_REAL = ("normal", "laplace", "student_t")
_FEATURES, _PIXEL_FEATURES = 256, 16  # of the convolutions


@dataclass(frozen=True)
class Prepared:
    """Data as the model wants them.

    Args:
        dataset: where they come from.
        model: whose data they are.
        likelihood: the flag, or its default for the data; None for a model without one.
        redraw: whether the training data are gray levels that are binarized anew at every pass.
        levels: gray levels that a density of the data is to be corrected for in bits per dimension;
            1 for probabilities of gray levels; None where bits per dimension mean nothing.
        train, validation, test: (num_data, x_dim), or (num_data, channels, height, width) of
            images; a pair with the classes where the model is given them.
    """

    dataset: Dataset
    model: Model
    likelihood: str | None
    redraw: bool
    levels: int | None
    train: Any
    validation: Any
    test: Any


def prepare(arguments: Namespace) -> Prepared:
    """Load the data and bring them into the support of the likelihood. Raises UsageError for what
    does not fit together.
    """
    dataset, model = load(arguments.data), MODELS[arguments.model]
    if dataset.lengths is not None:
        raise UsageError(f"--data {dataset.name} are sequences, and {arguments.model} is not.")
    if model.of_images and dataset.image_shape is None:
        raise UsageError(f"{arguments.model} needs images, and --data {dataset.name} are none.")
    if model.labeled and dataset.labels is None:
        raise UsageError(f"{arguments.model} needs classes, and --data {dataset.name} has none.")
    likelihood, protocol = _likelihood(arguments, dataset)
    redraw = protocol == "dynamic"
    parts: list[Any] = []
    levels = 1 if likelihood == "discretized_logistic" else None
    for index, name in enumerate(("train", "validation", "test")):
        x = getattr(dataset, name)
        # The seeds are the same for every run, so that runs with different seeds are tested on the
        # same data.
        if protocol is not None and not (redraw and index == 0):
            x = binarize(x, "static" if redraw else protocol, seed=index)
        elif likelihood in _OPEN or (model.kind == "FlowGAN" and dataset.levels):
            x, levels = dequantize(x, dataset.levels or 256, seed=index), dataset.levels
        if model.of_images and dataset.image_shape:
            x = x.reshape(-1, *dataset.image_shape)
        labels = dataset.labels[name] if model.labeled and dataset.labels else None
        parts.append(x if labels is None else (x, labels.astype(np.int32)))
    return Prepared(dataset, model, likelihood, redraw, levels, *parts)


def _likelihood(arguments: Namespace, dataset: Dataset) -> tuple[str | None, str | None]:
    """The likelihood and how its data become binary; None where it has none, or they do not."""
    if "likelihood" not in MODELS[arguments.model].flags:
        return None, None
    likelihood = arguments.likelihood or ("normal" if dataset.levels is None else "bernoulli")
    if dataset.levels is None and likelihood not in _REAL:
        raise UsageError(
            f"--likelihood {likelihood} needs gray levels in [0, 1], and --data {dataset.name} "
            "are real numbers; use normal."
        )
    if likelihood in BINARY:
        default = "threshold" if dataset.name == "digits" else "dynamic"
        return likelihood, arguments.binarize or default
    if arguments.binarize is not None:
        raise UsageError(f"--binarize makes data for --likelihood bernoulli, not for {likelihood}.")
    return likelihood, None


def build_model(backend: Backend, arguments: Namespace, data: Prepared) -> Any:
    """The model with its prior, posterior and likelihood. Raises UsageError for sizes that do not
    fit.
    """
    make, model, z_dim = backend.maker(arguments.seed), data.model, arguments.z_dim
    shape: Any = data.dataset.image_shape if model.of_images else data.dataset.x_dim
    codes: Any = (z_dim, max(1, z_dim // 2)) if model.layers else z_dim
    sizes = [shape, codes] if "z_dim" in model.flags else [shape]
    if model.labeled:
        classes = data.dataset.num_classes
        sizes.append(Labels(classes) if model.kind == "ConditionalVAE" else classes)
    sizes += model.sizes
    options: dict[str, Any] = {}
    hidden = arguments.hidden
    if model.of_images:
        options |= {} if hidden is None else {"hidden_channels": hidden}
    elif "hidden" in model.flags:
        hidden = (200, 200) if hidden is None else hidden
        options["hidden"] = hidden
    with as_usage_error():
        if "prior" in model.flags:
            kind = backend.conditional(PRIORS[arguments.prior])
            options["prior"] = (
                make(kind, dim=z_dim, bounds=None if data.dataset.levels is None else (0.0, 1.0))
                if _is_vamp(arguments, model)
                else make(kind, z_dim)
            )
        if data.likelihood is not None:
            encoded, decoded = _contexts(data, shape, z_dim, hidden)
            discretized = data.likelihood == "discretized_logistic"
            own = {"num_levels": data.dataset.levels} if discretized else {}
            kind = backend.conditional(LIKELIHOODS[data.likelihood])
            options["likelihood"] = make(kind, shape, context_shape=decoded, **own)
        if "posterior" in model.flags:
            rank = (min(2, z_dim),) if arguments.posterior == "low_rank" else ()
            kind = backend.conditional(POSTERIORS[arguments.posterior])
            options["posterior"] = make(kind, z_dim, *rank, context_shape=encoded)
            if model.of_images:
                options |= {"features": _FEATURES, "pixel_features": _PIXEL_FEATURES}
        return make(getattr(backend.package.models, model.kind), *sizes, **options)


def _is_vamp(arguments: Namespace, model: Model) -> bool:
    """Whether the prior is made of the model's encoder and posterior. Raises UsageError where the
    model has none for it.
    """
    if PRIORS[arguments.prior] != "VampPrior":
        return False
    if "posterior" not in model.flags or model.labeled:
        raise UsageError(
            "--prior vamp is made of the encoder and posterior of a VAE without classes, which "
            f"{arguments.model} has not: take another prior, or vae or conv_vae."
        )
    return True


def _contexts(data: Prepared, shape: Any, z_dim: int, hidden: Any) -> tuple[Any, Any]:
    """The shapes of the features of encoder and decoder."""
    if data.model.of_images:
        return _FEATURES, (_PIXEL_FEATURES, *shape[1:])
    if hidden:
        return hidden[-1], hidden[0]
    classes = data.dataset.num_classes if data.model.labeled else 0
    return shape + classes, z_dim + classes


def build_loss(backend: Backend, arguments: Namespace, num_data: int) -> Any:
    """The loss, with KL warm-up over whole epochs. Raises UsageError for arguments that the loss
    refuses.
    """
    loss, model = LOSSES[arguments.loss], MODELS[arguments.model]
    given = {flag: getattr(arguments, flag) for flag in loss.flags}
    if model.summed:
        given["enumerate"] = model.summed
    if "num_particles" in given:
        given["num_particles"] = arguments.num_particles or loss.num_particles
    if arguments.warmup:
        steps_per_epoch = -(-num_data // arguments.batch_size)
        given["beta"] = linear(arguments.warmup * steps_per_epoch, end=arguments.beta)
    with as_usage_error():
        sites = model.sites if len(model.sites) > 1 else model.sites[0]
        return loss.terms(backend.package.losses, sites, **given)


@contextmanager
def as_usage_error() -> Iterator[None]:
    """What the library refuses with a ValueError came from the flags here."""
    try:
        yield
    except ValueError as error:
        raise UsageError(str(error)) from error
