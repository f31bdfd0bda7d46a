"""Densities against themselves: they integrate or sum to one, and draws, their pathwise gradients
and the mean agree with the integrals.
"""

from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest

from tests.cases import CONDITIONALS
from tests.kinds import Conditional

# One entry for each family, small enough for a grid.
FAMILIES = [
    pytest.param(case, id=name)
    for name, case in CONDITIONALS.items()
    if not name.endswith(("-map", "-label", "-image", "-1"))
    and case.support not in ("simplex", "one-hot")  # in tests/codes
]
NUM_DRAWS = 20_000


@pytest.fixture(autouse=True)
def double_precision(x64: None) -> None:
    """Integrals are compared to seven digits."""


def grid(case: Conditional) -> tuple[np.ndarray, np.ndarray]:
    """Points (n, dim) and their weights, so that sum(weights * density(points)) is an integral (or
    a sum) over the support.
    """
    if case.support in ("binary", "classes"):
        points = np.arange({"binary": 2.0, "classes": 4}[case.support])
        weights = np.ones(len(points))
    elif case.support == "levels":
        points, weights = np.arange(256) / 255, np.ones(256)
    elif case.support == "unit":
        u = np.linspace(-30.0, 30.0, 4001)  # x = sigmoid(u): the ends may be singular
        points = 1 / (1 + np.exp(-u))
        weights = (u[1] - u[0]) * points / (1 + np.exp(u))
    else:
        number = 400_001 if case.name == "Laplace" else 4001  # whose density has a kink
        number = number if case.small[0] == 1 else 401
        u = np.linspace(-9.0, 9.0, number)  # x = sinh(u): heavy tails
        points, weights = np.sinh(u), (u[1] - u[0]) * np.cosh(u)
    if case.small[0] == 2 and case.support == "real":
        pairs = np.stack(np.meshgrid(points, points), -1).reshape(-1, 2)
        return pairs, np.outer(weights, weights).ravel()
    return points[:, None], weights


def parameters(lib: Any, case: Conditional) -> tuple[Any, Any]:
    """A small module and raw parameters that are not the ones it starts from."""
    if case.name.startswith("Standard"):
        return lib.build("conditionals", case.name, 1), None
    module = lib.conditional(case, 0, small=True)
    spread = (
        0.3 if case.support == "unit" else 0.7
    )  # the grid does not resolve a stronger singularity
    return module, lib.array(spread * np.random.default_rng(3).standard_normal(module.num_params))


def bounded(x: Any) -> Any:
    """A function whose expectation exists for every distribution."""
    return x / (1 + x**2) ** 0.5


@pytest.mark.parametrize("case", FAMILIES)
def test_total_mass_is_one_and_the_mean_is_the_mean(lib: Any, case: Conditional) -> None:
    module, raw = parameters(lib, case)
    points, weights = grid(case)

    def run(points: Any) -> list[Any]:
        p = module() if raw is None else module.build(raw)
        return [p.log_prob(points), p.mean] if case.mean else [p.log_prob(points)]

    log_prob, *mean = map(lib.numpy, lib.call(run, lib.array(points)))
    mass = weights * np.exp(log_prob)
    np.testing.assert_allclose(mass.sum(), 1.0, atol=1e-6)
    if mean and case.name != "StudentT":  # whose tails the grid does not reach
        np.testing.assert_allclose(mean[0], mass @ points, atol=1e-6)


@pytest.mark.parametrize("case", FAMILIES)
def test_draws_and_their_gradients_follow_the_density(lib: Any, case: Conditional) -> None:
    """E f(x) over draws is the integral of f; where draws are reparameterized, so is its gradient
    in the parameters (within 5 standard errors).
    """
    module, raw = parameters(lib, case)
    points, weights = grid(case)
    if raw is None:
        return

    def expectation(module: Any, raw: Any) -> Any:
        x = lib.array(points)
        return (
            lib.array(weights)[:, None]
            * lib.exp(module.build(raw).log_prob(x))[:, None]
            * bounded(x)
        ).sum(0)

    if not case.rsample:
        exact = lib.numpy(lib.call(lambda raw: expectation(module, raw), raw))
        draws = lib.call(lambda raw: lib.draw(module.build(raw), (NUM_DRAWS,)), raw)
        check_averages(bounded(lib.numpy(draws)).reshape(NUM_DRAWS, -1), exact)
        return
    exact, _, (integral,) = lib.values_and_gradients(expectation, module, raw)
    # Two draws for each copy of the parameters.
    each = lib.array(np.tile(lib.numpy(raw), (NUM_DRAWS // 2, 1)))
    values, _, (sampled,) = lib.values_and_gradients(
        lambda module, raw: bounded(lib.draw(module.build(raw), (2,))), module, each
    )
    check_averages(values.reshape(NUM_DRAWS, -1), exact)
    check_averages(sampled / 2, integral)
    assert (abs(integral) > 1e-6).any()


def check_averages(values: np.ndarray, exact: np.ndarray) -> None:
    """Means of independent rows, within 5 standard errors."""
    error = values.std(0) / len(values) ** 0.5
    assert (abs(values.mean(0) - exact) < 5 * error + 1e-9).all()


@pytest.mark.parametrize("logit", [30.0, 100.0, 800.0])
def test_continuous_bernoulli_with_large_logits(lib: Any, logit: float) -> None:
    """Where s rounds to one: log p(x) = log(l / (e^l - 1)) + x l, and the gradient is still x minus
    the mean.
    """
    module = lib.build("conditionals", "ContinuousBernoulli", 1)
    x = np.array([[0.0], [0.3], [1.0]])
    log_prob = lib.numpy(
        lib.call(lambda raw: module.build(raw).log_prob(lib.array(x)), lib.array([logit]))
    )
    np.testing.assert_allclose(
        log_prob, np.log(logit) - logit - np.log1p(-np.exp(-logit)) + x[:, 0] * logit, atol=1e-10
    )
    _, (gradient,) = lib.gradients(
        lambda module, raw: module.build(raw).log_prob(lib.array(x)), module, lib.array([logit])
    )
    np.testing.assert_allclose(gradient, (x - 1 + 1 / logit).sum(), atol=1e-10)


@pytest.mark.parametrize("logit", [0.0, 1e-6, 0.05, 0.0999999, 0.1000001, 0.5, 3.0, 8.0])
def test_continuous_bernoulli_is_torchs(lib: Any, logit: float) -> None:
    """Density, mean and quantiles against torch's own, also around the places where either changes
    to a series; and gradients against differences.
    """
    import torch

    module = lib.build("conditionals", "ContinuousBernoulli", 1)
    x = np.array([0.0, 0.3, 0.9, 1.0])
    for l in (logit, -logit):
        theirs = torch.distributions.ContinuousBernoulli(logits=torch.tensor([l]))

        def run(raw: Any, l: float = l) -> list[Any]:
            p = module.build(raw).base_dist
            return [p.log_prob(lib.array(x)), p.mean, p.icdf(lib.array(x))]

        log_prob, mean, quantiles = map(lib.numpy, lib.call(run, lib.array([l])))
        np.testing.assert_allclose(log_prob, theirs.log_prob(torch.tensor(x)).numpy(), atol=1e-10)
        np.testing.assert_allclose(mean, theirs.mean.numpy(), atol=1e-9)
        np.testing.assert_allclose(
            quantiles, theirs.icdf(torch.tensor(x)).numpy(), atol=1e-7 if 0 < abs(l) < 0.1 else 1e-9
        )
        _, (gradient,) = lib.gradients(
            lambda module, raw: module.build(raw).log_prob(lib.array(x[:, None])),
            module,
            lib.array([l]),
        )
        np.testing.assert_allclose(gradient, (x - mean).sum(), atol=1e-10)  # an exponential family


def test_discretized_logistic_mixture_far_from_its_components(lib: Any) -> None:
    """Probabilities of 1e-400 and below have a finite logarithm, linear in the distance, and all
    levels still sum to one.
    """
    module = lib.build("conditionals", "DiscretizedLogisticMixture", 1, 1)
    raw = lib.array([0.0, -0.9, -60.0])  # a scale of 1e-3
    levels = lib.array(np.arange(256.0)[:, None] / 255)
    log_prob = lib.numpy(lib.call(lambda raw: module.build(raw).log_prob(levels), raw))
    np.testing.assert_allclose(np.exp(log_prob).sum(), 1.0, atol=1e-12)
    np.testing.assert_allclose(np.diff(log_prob[100:200]), -2 / 255 / 1e-3, rtol=1e-9)
    assert log_prob[-1] < -1800


@pytest.mark.parametrize("case", [case for case in FAMILIES if "Standard" not in case.id])
def test_nan_parameters_are_neither_certain_nor_impossible(lib: Any, case: Conditional) -> None:
    """Where nothing can be refused, as in compiled code: of NumPyro's own Bernoulli distribution
    NaN has the probability one or zero.
    """
    points = lib.array(grid(case)[0][[0, -1]])
    module, raw = parameters(lib, case)

    def found(p: Any) -> np.ndarray:
        with lib.pyro.validation_enabled(False) if hasattr(lib, "pyro") else nullcontext():
            return lib.numpy(lib.call(lambda p, x: module.build(p).log_prob(x), p, points))

    assert np.isfinite(found(raw)).all()
    assert np.isnan(found(raw * np.nan)).all()
