"""Models with known evidence, written once for both backends."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

LOG_EVIDENCE = -1.515512  # z ~ Normal(0, 1), x | z ~ Normal(z, 1), x = 1: log Normal(1; 0, var 2)
ELBO_AT_Q = -1.580510  # with q = Normal(0.5, var 0.8)
IWAE_AT_Q = {2: -1.5397, 5: -1.5240, 10: -1.5195, 50: -1.5162}
Q = {"loc": 0.5, "log_scale": 0.5 * math.log(0.8)}


def conjugate(backend: Any, num_data: int = 1) -> tuple[Callable, Callable]:
    """z_n ~ Normal(0, 1), x_n | z_n ~ Normal(z_n, 1) with the guide q = Normal(loc,
    exp(log_scale)), shared by all data (which are equal).
    """
    dist, np_ = backend.dist, backend.np

    def model(x: Any, size: int | None = None) -> None:
        with backend.plate("data", size or len(x), subsample_size=len(x)):
            z = backend.sample("z", dist.Normal(backend.array(0.0), backend.array(1.0)))
            backend.sample("x", dist.Normal(z, backend.array(1.0)), obs=x)

    def guide(x: Any, size: int | None = None) -> None:
        loc, log_scale = (
            backend.param("loc", backend.array(0.0)),
            backend.param("log_scale", backend.array(0.5)),
        )
        with backend.plate("data", size or len(x), subsample_size=len(x)):
            backend.sample("z", dist.Normal(loc, np_.exp(log_scale)))

    return model, guide


def ones(num_data: int) -> np.ndarray:
    return np.ones(num_data)


def conjugate_per_datum(backend: Any) -> tuple[Callable, Callable]:
    """The conjugate toy with variational parameters (loc, log_scale) of shape (num_data,): every
    datum draws its own gradient.
    """
    dist, np_ = backend.dist, backend.np

    def model(x: Any) -> None:
        with backend.plate("data", len(x)):
            z = backend.sample("z", dist.Normal(backend.array(0.0), backend.array(1.0)))
            backend.sample("x", dist.Normal(z, backend.array(1.0)), obs=x)

    def guide(x: Any) -> None:
        with backend.plate("data", len(x)):
            backend.sample(
                "z", dist.Normal(backend.param("loc"), np_.exp(backend.param("log_scale")))
            )

    return model, guide


def mixture_model(backend: Any) -> tuple[Callable, Callable]:
    """c_n ~ Bernoulli(0.3), x_n | c_n ~ Normal(2 c_n, 1), guide Bernoulli(logits_n)."""
    dist = backend.dist

    def model(x: Any) -> None:
        with backend.plate("data", len(x)):
            c = backend.sample("c", dist.Bernoulli(probs=backend.array(0.3)))
            backend.sample("x", dist.Normal(2.0 * c, backend.array(1.0)), obs=x)

    def guide(x: Any) -> None:
        with backend.plate("data", len(x)):
            backend.sample("c", dist.Bernoulli(logits=backend.param("logits")))

    return model, guide


def log_normal(x: Any, loc: Any, scale: float) -> Any:
    return -0.5 * ((x - loc) / scale) ** 2 - math.log(scale) - 0.5 * math.log(2 * math.pi)


def log_softmax(x: Any) -> Any:
    return x - np.logaddexp.reduce(x, -1, keepdims=True)
