"""Diffusions whose networks are exact: of normal distributions and mixtures of them."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from tests.backends import PyroBackend


def schedules_of(backend: Any) -> Any:
    return import_module(f"{backend.name}_dgm.conditionals.diffusion.schedules")


def parts_of(backend: Any) -> Any:
    return import_module(f"{backend.name}_dgm.conditionals.diffusion.bound")


def level(backend: Any, schedule: Any, t: Any) -> tuple[Any, Any]:
    """alpha and sigma of times (N,), as columns."""
    log_alpha, variance = schedules_of(backend).marginal(schedule, t)
    return backend.np.exp(log_alpha)[:, None], variance[:, None] ** 0.5


def of_normal(backend: Any, schedule: Any, s2: float, predict: str = "noise") -> Callable:
    """What is best to predict in Normal(0, s2) data."""

    def net(x: Any, t: Any) -> Any:
        a, s = level(backend, schedule, t)
        data = a * s2 / (a**2 * s2 + s**2) * x
        noise = s / (a**2 * s2 + s**2) * x
        return {
            "noise": noise,
            "data": data,
            "velocity": a * noise - s * data,
            "score": -x / (a**2 * s2 + s**2),
        }[predict]

    return net


def of_mixture(
    backend: Any, schedule: Any, shares: Any, means: Any, variances: Any
) -> Callable[[Any, Any], Any]:
    """The score of sum_k shares_k Normal(means_k, variances_k) data; with labels as a context
    (N, K) that of the component, and of all where these are zero."""
    xp = backend.np
    shares, means, variances = map(backend.array, (shares, means, variances))

    def net(x: Any, t: Any, labels: Any = None) -> Any:
        a, s = level(backend, schedule, t)
        mean, variance = a * means, a**2 * variances + s**2
        weights = (
            shares if labels is None else xp.where(labels.sum(-1) > 0, labels.T, shares[:, None]).T
        )
        log_r = xp.log(weights + 1e-300) - xp.log(variance) / 2 - (x - mean) ** 2 / variance / 2
        r = (
            xp.exp(log_r - xp.logsumexp(log_r, -1)[..., None])
            if torch_like(backend)
            else softmax(log_r)
        )
        return ((mean - x) / variance * r).sum(-1)[:, None]

    return net


def torch_like(backend: Any) -> bool:
    return isinstance(backend, PyroBackend)


def softmax(x: Any) -> Any:
    import jax

    return jax.nn.softmax(x, -1)


def log_normal(x: np.ndarray, s2: float) -> np.ndarray:
    """log Normal(0, s2) of rows."""
    return (-(x**2) / s2 / 2 - np.log(2 * np.pi * s2) / 2).sum(-1)


def drawn(backend: Any, function: Callable, seed: int = 0) -> Any:
    """What a function that draws returns, as arrays of numpy: in NumPyro of a key."""
    if backend.name == "pyro":
        torch = backend.torch
        torch.manual_seed(seed)
        with torch.no_grad():
            found = function({})
        return [x.numpy() for x in found] if isinstance(found, tuple | list) else found.numpy()
    jax = backend.jax
    found = jax.jit(lambda key: function({"key": key}))(jax.random.key(seed))
    return jax.tree.map(np.asarray, found)


def sampled(p: Any, how: dict[str, Any], shape: tuple[int, ...], **options: Any) -> Any:
    """Draws, in either library."""
    return p.sample(*how.values(), shape, **options)
