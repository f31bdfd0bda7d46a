"""Formulas of plain arrays in both libraries: values and gradients as numpy arrays."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.backends import NumPyroBackend, PyroBackend


def compiled(
    backend: Any, function: Callable[..., Any]
) -> Callable[..., tuple[np.ndarray, list[np.ndarray]]]:
    """From numpy arrays to function(*arrays), and the gradients of the sum of what it returns with
    respect to each array; compiled once in JAX.
    """
    if isinstance(backend, PyroBackend):

        def run(*arrays: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
            inputs = [backend.array(a).clone().requires_grad_() for a in arrays]
            out = function(*inputs)
            found = backend.torch.autograd.grad(out.sum(), inputs, allow_unused=True)
            return out.detach().numpy(), [
                np.zeros(x.shape) if g is None else g.numpy() for x, g in zip(inputs, found)
            ]

        return run

    def total(inputs: list[Any]) -> Any:
        out = function(*inputs)
        return out.sum(), out

    jitted = backend.jax.jit(backend.jax.value_and_grad(total, has_aux=True))

    def run(*arrays: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        (_, out), found = jitted([backend.array(a) for a in arrays])
        return np.asarray(out), [np.asarray(g) for g in found]

    return run


def value_and_gradients(
    backend: Any, function: Callable[..., Any], *arrays: np.ndarray
) -> tuple[np.ndarray, list[np.ndarray]]:
    """function(*arrays), and the gradients of the sum of what it returns with respect to each
    array.
    """
    return compiled(backend, function)(*arrays)


def repeated(backend: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` from and to numpy arrays, one or a tuple of them, without gradients, to be called
    many times; compiled once in JAX.
    """
    compiled = function if isinstance(backend, PyroBackend) else backend.jax.jit(function)

    def run(*arrays: np.ndarray) -> Any:
        found = compiled(*(backend.array(a) for a in arrays))
        return tuple(map(np.asarray, found)) if isinstance(found, tuple) else np.asarray(found)

    return run


def value(backend: Any, function: Callable[..., Any], *arrays: np.ndarray) -> Any:
    """function(*arrays), one array or a tuple of them."""
    return repeated(backend, function)(*arrays)


def assert_twins_agree(formula: Callable[[Any], Callable[..., Any]], *arrays: np.ndarray) -> None:
    """`formula(backend)` has equal values and gradients in both libraries, to 1e-10 in double
    precision.
    """
    results = []
    for backend in (PyroBackend(), NumPyroBackend()):
        with backend.double_precision():
            results.append(value_and_gradients(backend, formula(backend), *arrays))
    (ours, gradients), (theirs, twin_gradients) = results
    np.testing.assert_allclose(theirs, ours, rtol=1e-10, atol=1e-10)
    for gradient, twin_gradient in zip(gradients, twin_gradients):
        np.testing.assert_allclose(twin_gradient, gradient, rtol=1e-10, atol=1e-10)
    assert any(np.abs(gradient).max() > 1e-6 for gradient in gradients)


def assert_within_three_errors(estimates: np.ndarray, truth: float) -> None:
    """The mean of independent estimates is within three standard errors of the truth."""
    assert np.mean(estimates) == pytest.approx(
        truth, abs=3 * np.std(estimates, ddof=1) / np.sqrt(len(estimates))
    )
