"""Relaxations of discrete variables: their densities by quadrature, what they tend to, and
temperatures that change."""

from typing import Any

import numpy as np
import pytest

from dgm_core.schedules import linear
from tests.contracts.libraries import NumPyroLibrary, PyroLibrary

LOGITS = np.log([0.5, 0.3, 0.2])


@pytest.fixture(params=[PyroLibrary, NumPyroLibrary], ids=["pyro", "numpyro"])
def lib(request: pytest.FixtureRequest, x64: None) -> Any:
    return request.param()


def of(lib: Any, name: str, logits: np.ndarray, temperature: float) -> Any:
    """The distribution of these log-odds."""
    settings = {} if name == "StraightThrough" else {"temperature": temperature}
    module = lib.build("conditionals", name, len(logits), **settings)
    return module.build(lib.array(logits))


def test_densities_by_quadrature(lib: Any) -> None:
    """They integrate to one over the simplex of two and of three classes, and over (0, 1); as many
    of the mass is where a class is largest as the class has probability, whatever the temperature.
    """
    edges = np.linspace(-30, 30, 2001)
    u = (edges[1:] + edges[:-1]) / 2
    step = edges[1] - edges[0]
    y = 1 / (1 + np.exp(-u))
    plane = np.stack(np.meshgrid(u[::8] + 0.11, u[::8] - 0.04), -1)  # no ties
    weights = np.exp(np.concatenate([plane, np.zeros((*plane.shape[:-1], 1))], -1))
    simplex = weights / weights.sum(-1, keepdims=True)

    def scores() -> list[Any]:
        pair = np.stack([y, 1 / (1 + np.exp(u))], -1)
        return [
            of(lib, "GumbelSoftmax", LOGITS[:2], 0.6).log_prob(lib.array(pair)),
            of(lib, "RelaxedBernoulli", np.array([0.7]), 0.4).log_prob(lib.array(y[:, None])),
            of(lib, "GumbelSoftmax", LOGITS, 0.8).log_prob(lib.array(simplex)),
        ]

    two, unit, three = (np.exp(lib.numpy(x)) for x in lib.call(scores))
    slope = y / (1 + np.exp(u)) * step
    assert (two * slope).sum() == pytest.approx(1.0, abs=1e-6)
    assert (two * slope)[u > 0].sum() == pytest.approx(5 / 8, abs=1e-6)
    assert (unit * slope).sum() == pytest.approx(1.0, abs=1e-4)
    assert (unit * slope)[u > 0].sum() == pytest.approx(1 / (1 + np.exp(-0.7)), abs=1e-4)
    cells = three * simplex.prod(-1) * (8 * step) ** 2
    assert cells.sum() == pytest.approx(1.0, abs=1e-4)
    for k, probability in enumerate(np.exp(LOGITS)):
        assert cells[simplex.argmax(-1) == k].sum() == pytest.approx(probability, abs=2e-2)


def test_draws_and_straight_gradients(lib: Any) -> None:
    """Draws have these probabilities; the gradient of a linear function of a one-hot vector is that
    of its mean, without noise, and of its score none in the mean.
    """
    values = np.array([1.0, -2.0, 4.0])

    def draws() -> list[Any]:
        return [
            lib.draw(of(lib, "GumbelSoftmax", LOGITS, 0.3), (4000,)),
            lib.draw(of(lib, "StraightThrough", LOGITS, 0.0), (4000,)),
        ]

    soft, hard = (lib.numpy(x) for x in lib.call(draws))
    for found in (np.eye(3)[soft.argmax(-1)], hard):
        np.testing.assert_allclose(found.mean(0), np.exp(LOGITS), atol=0.03)
    np.testing.assert_array_equal(hard, np.eye(3)[hard.argmax(-1)])
    np.testing.assert_allclose(soft.sum(-1), 1.0)
    module = lib.build("conditionals", "StraightThrough", 3)

    def linear_value(module: Any, raw: Any) -> Any:
        return (lib.draw(module.build(raw), (5,)) * lib.array(values)).sum(-1) / 5

    _, (gradient,) = lib.gradients(linear_value, module, lib.array(LOGITS))
    p = np.exp(LOGITS)
    np.testing.assert_allclose(gradient, p * (values - p @ values))


def test_a_schedule_counts_training(lib: Any) -> None:
    """One step for each call in training, none in evaluation."""
    module = lib.build("conditionals", "GumbelSoftmax", 2, temperature=linear(2, 1.0, 0.5))
    register, mode = lib.package.nn.register, lib.package.nn.evaluation_mode
    y, state = lib.array([0.3, 0.7]), {}
    expected = {
        t: float(lib.numpy(of(lib, "GumbelSoftmax", np.zeros(2), t).log_prob(y)))
        for t in (1.0, 0.75, 0.5)
    }

    def call() -> float:
        nonlocal state
        if lib.package.__name__ == "pyro_dgm":
            return register("module", module)().log_prob(y).item()
        handlers = lib.numpyro.handlers
        with handlers.seed(rng_seed=0), handlers.trace() as trace, handlers.substitute(data=state):
            value = float(register("module", module)().log_prob(y))
        state = {k: site["value"] for k, site in trace.items() if site["type"] == "mutable"}
        return value

    for temperature in (1.0, 0.75, 0.5, 0.5):
        with mode(module):
            assert call() == pytest.approx(expected[temperature])
        assert call() == pytest.approx(expected[temperature])


def test_what_is_refused(lib: Any) -> None:
    for name, dim, settings, message in (
        ("GumbelSoftmax", (2, 1), {}, r"end with at least 2 classes, got \(2, 1\)"),
        ("StraightThrough", 1, {}, r"end with at least 2 classes, got \(1,\)"),
        ("GumbelSoftmax", 3, {"temperature": 0.0}, "temperature must be a positive number or a"),
        (
            "RelaxedBernoulli",
            3,
            {"temperature": linear(3), "learned": True},
            "temperature must be a positive number, got",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            lib.build("conditionals", name, dim, **settings)
