"""From flags to data, model and loss."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from dgm_core.cli.arguments import LIKELIHOODS, POSTERIORS, PRIORS, UsageError
from dgm_core.cli.backend import Backend
from dgm_core.data import Dataset, binarize, dequantize, load
from dgm_core.schedules import linear

_OPEN = (
    "beta",
    "kumaraswamy",
    "logit_normal",
)  # densities on (0, 1), which gray levels of exactly 0 and 1 do not lie in
_REAL = ("normal", "student_t")


@dataclass(frozen=True)
class Prepared:
    """Data as the likelihood wants them.

    Args:
        dataset: where they come from.
        likelihood: the flag, or its default for the data.
        train, validation, test: (num_data, x_dim), or (num_data, channels, height, width) for
            convolutions.
        redraw: whether the training data are gray levels that are binarized anew at every pass.
        levels: gray levels that a density of the data is to be corrected for in bits per dimension;
            1 for probabilities of gray levels; None where bits per dimension mean nothing.
    """

    dataset: Dataset
    likelihood: str
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    redraw: bool
    levels: int | None


def prepare(arguments: Namespace) -> Prepared:
    """Load the data and bring them into the support of the likelihood. Raises UsageError for what
    does not fit together.
    """
    dataset = load(arguments.data)
    if dataset.lengths is not None:
        raise UsageError(
            f"--data {dataset.name} are sequences, which a VAE of vectors does not model; "
            "choose "
            "images or a table."
        )
    if arguments.model == "conv_vae" and dataset.image_shape is None:
        raise UsageError(f"conv_vae needs images, and --data {dataset.name} are none; use vae.")
    likelihood = arguments.likelihood or ("normal" if dataset.levels is None else "bernoulli")
    if dataset.levels is None and likelihood not in _REAL:
        raise UsageError(
            f"--likelihood {likelihood} needs gray levels in [0, 1], and --data {dataset.name} "
            "are real numbers; use normal."
        )
    if arguments.binarize is not None and likelihood != "bernoulli":
        raise UsageError(f"--binarize makes data for --likelihood bernoulli, not for {likelihood}.")

    protocol = arguments.binarize or ("threshold" if dataset.name == "digits" else "dynamic")
    redraw = likelihood == "bernoulli" and protocol == "dynamic"
    parts, levels = [], None
    for index, part in enumerate((dataset.train, dataset.validation, dataset.test)):
        # The seeds are the same for every run, so that runs with different seeds are tested on the
        # same data.
        if likelihood == "bernoulli" and not (redraw and index == 0):
            part = binarize(part, "static" if redraw else protocol, seed=index)
        elif likelihood in _OPEN:
            part, levels = dequantize(part, dataset.levels or 256, seed=index), dataset.levels
        elif likelihood == "discretized_logistic":
            levels = 1
        parts.append(
            part.reshape(-1, *dataset.image_shape)
            if arguments.model == "conv_vae" and dataset.image_shape
            else part
        )
    train, validation, test = parts
    return Prepared(dataset, likelihood, train, validation, test, redraw=redraw, levels=levels)


def build_model(backend: Backend, arguments: Namespace, data: Prepared) -> Any:
    """The model with its prior, posterior and likelihood. Raises UsageError for sizes that do not
    fit.
    """
    make = backend.maker(arguments.seed)
    z_dim, options = arguments.z_dim, {}
    shape: Any
    if arguments.model == "vae":
        hidden = (200, 200) if arguments.hidden is None else arguments.hidden
        shape = data.train.shape[1]
        options["hidden"] = hidden
        encoded, decoded = (hidden[-1], hidden[0]) if hidden else (shape, z_dim)
        cls, pixelwise = backend.models.VAE, {}
    else:
        shape = data.dataset.image_shape
        options |= {} if arguments.hidden is None else {"hidden_channels": arguments.hidden}
        options |= {"features": 256, "pixel_features": 16}
        encoded, decoded = 256, 16 * shape[1] * shape[2]
        cls, pixelwise = backend.models.ConvVAE, {"pixelwise": True}

    with as_usage_error():
        posterior = backend.conditional(POSTERIORS[arguments.posterior])
        rank = (min(2, z_dim),) if arguments.posterior == "low_rank" else ()
        levels = (
            {"num_levels": data.dataset.levels} if data.likelihood == "discretized_logistic" else {}
        )
        likelihood = getattr(backend.conditionals, LIKELIHOODS[data.likelihood])
        return make(
            cls,
            shape,
            z_dim,
            prior=make(backend.conditional(PRIORS[arguments.prior]), z_dim),
            posterior=make(posterior, z_dim, *rank, context_shape=encoded),
            likelihood=make(likelihood, shape, context_shape=decoded, **levels, **pixelwise),
            **options,
        )


def build_loss(backend: Backend, arguments: Namespace, num_data: int) -> Any:
    """The loss, with KL warm-up over whole epochs. Raises UsageError for arguments that the loss
    refuses.
    """
    with as_usage_error():
        if arguments.loss == "iwae":
            return backend.losses.IWAE(
                num_particles=arguments.num_particles or 10, estimator=arguments.estimator
            )
        steps_per_epoch = -(-num_data // arguments.batch_size)
        beta = (
            linear(arguments.warmup * steps_per_epoch, end=arguments.beta)
            if arguments.warmup
            else arguments.beta
        )
        return backend.losses.ELBO(
            beta=beta, num_particles=arguments.num_particles or 1, estimator=arguments.estimator
        )


@contextmanager
def as_usage_error() -> Iterator[None]:
    """What the library refuses with a ValueError came from the flags here."""
    try:
        yield
    except ValueError as error:
        raise UsageError(str(error)) from error
