"""Energy distance, energy score and Wasserstein distances against closed forms, quadrature and
other people's code.
"""

import importlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from scipy.stats import norm, wasserstein_distance

from dgm_core.samples.two_sample import energy_test
from tests.losses.arrays import (
    assert_twins_agree,
    assert_within_three_errors,
    repeated,
    value,
    value_and_gradients,
)


def module(backend: Any) -> Any:
    return importlib.import_module(f"{backend.name}_dgm.losses.samples.statistics")


def moment(mean: float, var: float, beta: float) -> float:
    """E |D|^beta for D ~ N(mean, var)."""
    sd = math.sqrt(var)
    halves = (
        quad(lambda t: norm.pdf(t, mean, sd) * abs(t) ** beta, *half, epsabs=1e-12)[0]
        for half in ((mean - 12 * sd, 0), (0, mean + 12 * sd))
    )
    return sum(halves)


@pytest.mark.parametrize("beta", [0.5, 1.0, 1.5])
def test_energy_distance_of_two_normals(backend: Any, beta: float) -> None:
    """1,000 unbiased estimates from 20 points each of N(0, 1) and N(1, 1) average to the truth;
    single ones may be negative.
    """
    truth = 2 * moment(1.0, 2.0, beta) - 2 * moment(0.0, 2.0, beta)
    if beta == 1.0:
        assert truth == pytest.approx(0.541807, abs=5e-7)
    scores = module(backend)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(1000, 20)), rng.normal(1.0, 1.0, size=(1000, 20))
    run = repeated(
        backend,
        lambda x, y: backend.np.stack(
            [scores.energy_distance(x, y, beta), scores.energy_distance(x, y, beta, unbiased=False)]
        ),
    )
    unbiased, biased = np.array([run(a, b) for a, b in zip(x, y)]).T
    assert_within_three_errors(unbiased, truth)
    assert unbiased.min() < 0 < biased.min()
    assert_within_three_errors(biased, truth + 2 * moment(0.0, 2.0, beta) / 20)


def test_energy_distance_equals_the_double_loop(backend: Any) -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(6, 2, 2)), rng.normal(size=(4, 2, 2))
    a, b = x.reshape(6, 4), y.reshape(4, 4)
    expected = (
        2 * np.mean(cdist(a, b) ** 1.2)
        - np.sum(cdist(a, a) ** 1.2) / 30
        - np.sum(cdist(b, b) ** 1.2) / 12
    )
    assert value(
        backend, lambda x, y: module(backend).energy_distance(x, y, 1.2), x, y
    ) == pytest.approx(expected, abs=1e-12)


def test_energy_score_is_strictly_proper(backend: Any) -> None:
    """y ~ N(0, 1) scored by N(mu, sigma^2): the mean agrees with its closed form, which exceeds
    that of the truth by half the energy distance.
    """
    rng = np.random.default_rng(2)
    y, noise = rng.normal(size=20_000), rng.normal(size=(4, 20_000))
    run = repeated(backend, module(backend).energy_score)
    own = run(y, noise)
    for mu, sigma in ((0.0, 1.0), (0.3, 1.0), (-0.3, 1.0), (0.0, 0.7), (0.0, 1.4), (0.4, 0.8)):
        found = run(y, mu + sigma * noise)
        expected = moment(mu, 1 + sigma**2, 1.0) - moment(0.0, 2 * sigma**2, 1.0) / 2
        assert_within_three_errors(found, expected)
        if (mu, sigma) != (0.0, 1.0):
            excess = found - own
            half_distance = (
                moment(mu, 1 + sigma**2, 1.0)
                - moment(0.0, 2 * sigma**2, 1.0) / 2
                - moment(0.0, 2.0, 1.0) / 2
            )
            assert_within_three_errors(excess, half_distance)
            assert excess.mean() > 3 * excess.std() / math.sqrt(len(excess))


def test_energy_score_sees_dependence(backend: Any) -> None:
    """Two correlated entries: a model with the right margins and the wrong correlation scores
    worse.
    """
    rng = np.random.default_rng(3)

    def mixed(noise: np.ndarray, rho: float) -> np.ndarray:
        return np.stack(
            [noise[..., 0], rho * noise[..., 0] + math.sqrt(1 - rho**2) * noise[..., 1]], -1
        )

    y, noise = mixed(rng.normal(size=(20_000, 2)), 0.8), rng.normal(size=(4, 20_000, 2))
    run = repeated(backend, module(backend).energy_score)
    right = run(y, mixed(noise, 0.8))
    for rho in (0.0, 0.5, 0.95):
        excess = run(y, mixed(noise, rho)) - right
        assert excess.mean() > 3 * excess.std() / math.sqrt(len(excess))


def test_energy_score_equals_the_double_loop(backend: Any) -> None:
    rng = np.random.default_rng(4)
    y, samples = rng.normal(size=(3, 2, 2)), rng.normal(size=(5, 3, 2, 2))
    expected = []
    for i in range(3):
        of_q, at = samples[:, i].reshape(5, 4), y[i].reshape(1, 4)
        expected.append(np.mean(cdist(of_q, at) ** 0.7) - np.sum(cdist(of_q, of_q) ** 0.7) / 20 / 2)
    np.testing.assert_allclose(
        value(backend, lambda y, s: module(backend).energy_score(y, s, 0.7), y, samples),
        expected,
        atol=1e-12,
    )


@pytest.mark.parametrize("sizes", [(7, 7), (7, 4), (6, 9), (1, 5), (12, 1)])
def test_wasserstein_on_the_line(backend: Any, sizes: tuple[int, int]) -> None:
    """W1 against scipy; W2^2 against the optimal assignment of samples that are repeated to equal
    size.
    """
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(sizes[0], 2)), rng.normal(0.7, 2.0, size=(sizes[1], 2))
    powers = value(
        backend,
        lambda x, y: backend.np.stack(
            [module(backend).wasserstein_1d(x, y, p) for p in (1, 2, 3.0)]
        ),
        x,
        y,
    )
    assert powers.shape == (3, 2)
    for i in range(2):
        assert powers[0, i] == pytest.approx(wasserstein_distance(x[:, i], y[:, i]), abs=1e-12)
        cost = np.abs(np.repeat(x[:, i], sizes[1])[:, None] - np.repeat(y[:, i], sizes[0]))
        for p in (2, 3):
            assert powers[p - 1, i] == pytest.approx(
                (cost**p)[linear_sum_assignment(cost**p)].mean(), abs=1e-12
            )


def test_wasserstein_of_two_normals(backend: Any) -> None:
    """A shift moves all mass by as much: W1 = W2 = 1 for N(0, 1) and N(1, 1), exactly on quantiles,
    and from draws.
    """
    wasserstein_1d = module(backend).wasserstein_1d
    quantiles = norm.ppf((np.arange(1000) + 0.5) / 1000)
    powers = value(
        backend,
        lambda x, y: backend.np.stack([wasserstein_1d(x, y), wasserstein_1d(x, y, 2.0)]),
        quantiles,
        quantiles + 1,
    )
    np.testing.assert_allclose(powers, 1.0, atol=1e-12)
    rng = np.random.default_rng(6)
    x, y = rng.normal(size=(2000, 100)), rng.normal(1.0, 1.0, size=(2000, 100))
    assert_within_three_errors(value(backend, wasserstein_1d, x, y), 1.0)


def test_sliced_wasserstein(backend: Any) -> None:
    scores = module(backend)
    rng = np.random.default_rng(7)
    x, y, directions = rng.normal(size=(8, 3)), rng.normal(size=(6, 3)), rng.normal(size=(5, 3))
    units = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    expected = np.mean([wasserstein_distance(x @ u, y @ u) for u in units])
    assert value(
        backend, lambda x, y, d: scores.sliced_wasserstein(x, y, d, p=1), x, y, directions
    ) == pytest.approx(expected, abs=1e-12)
    shift = np.array([1.0, -2.0, 0.5])
    along_axes = value(backend, scores.sliced_wasserstein, x, x + shift, 7 * np.eye(3))
    assert along_axes == pytest.approx(np.sum(shift**2) / 3, abs=1e-12)
    many = value(backend, scores.sliced_wasserstein, x, x + shift, rng.normal(size=(20_000, 3)))
    assert many == pytest.approx(
        np.sum(shift**2) / 3,
        abs=3 * np.sum(shift**2) * math.sqrt(1 / 5 - 1 / 9) / math.sqrt(20_000),
    )
    images = value(
        backend, scores.sliced_wasserstein, x[:, None, :], y[:, None, :], directions[:, None, :]
    )
    assert images == pytest.approx(
        value(backend, scores.sliced_wasserstein, x, y, directions), abs=1e-12
    )


FORMULAS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "energy distance": lambda s, x, y: s.energy_distance(x, y),
    "energy distance, 1/2": lambda s, x, y: s.energy_distance(x, y, 0.5, False),
    "energy score": lambda s, x, y: s.energy_score(x[0], y).mean(),
    "energy score, 1/2": lambda s, x, y: s.energy_score(x[0], y, 0.5).mean(),
    "wasserstein_1d": lambda s, x, y: s.wasserstein_1d(x, y).mean(),
    "wasserstein_1d, 2": lambda s, x, y: s.wasserstein_1d(x, y, 2.0).mean(),
    "sliced_wasserstein": lambda s, x, y: s.sliced_wasserstein(x, y[:3], y[:2]),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_twins_agree(name: str) -> None:
    rng = np.random.default_rng(8)
    assert_twins_agree(
        lambda backend: lambda x, y: FORMULAS[name](module(backend), x, y),
        rng.normal(size=(5, 4, 2)),
        rng.normal(size=(6, 4, 2)),
    )


def test_the_loss_is_the_statistic_of_the_test(backend: Any) -> None:
    rng = np.random.default_rng(9)
    x, y = rng.normal(size=(6, 4)), rng.normal(size=(4, 4))
    expected = energy_test(x, y, 1.3, num_permutations=1).statistic
    assert value(
        backend, lambda x, y: module(backend).energy_distance(x, y, 1.3), x, y
    ) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", FORMULAS)
def test_gradients_are_finite_where_points_coincide(backend: Any, name: str) -> None:
    _, gradients = value_and_gradients(
        backend,
        lambda x, y: FORMULAS[name](module(backend), x, y),
        np.ones((5, 4, 2)),
        np.ones((5, 4, 2)),
    )
    assert all(np.isfinite(gradient).all() for gradient in gradients)


BAD: dict[str, tuple[Callable[[Any, Any], Any], str]] = {
    "beta": (
        lambda s, z: s.energy_distance(z(3), z(3), 2.0),
        r"beta must be a number in \(0, 2\), got 2\.0\.",
    ),
    "beta of the score": (
        lambda s, z: s.energy_score(z(3), z(4, 3), 0.0),
        r"beta must be a number in \(0, 2\), got 0\.0\.",
    ),
    "one point": (
        lambda s, z: s.energy_distance(z(1), z(3)),
        r"at least 2 points of each sample, got 1 and 3\.",
    ),
    "events": (
        lambda s, z: s.energy_distance(z(3, 2), z(3)),
        r"equal events, got \(3, 2\) and \(3,\)\.",
    ),
    "one sample": (
        lambda s, z: s.energy_score(z(3), z(1, 3)),
        r"two or more samples .* got \(3,\) and \(1, 3\)\.",
    ),
    "other batch": (
        lambda s, z: s.energy_score(z(3), z(4, 2)),
        r"two or more samples .* got \(3,\) and \(4, 2\)\.",
    ),
    "power": (
        lambda s, z: s.wasserstein_1d(z(3), z(3), 0.5),
        (
            r"p must be a number of at least "
            r"1, got 0\.5\."
        ),
    ),
    "directions": (
        lambda s, z: s.sliced_wasserstein(z(3, 2), z(3, 2), z(5, 3)),
        r"equal events, got \(3, 2\) and \(5, 3\)\.",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments(backend: Any, case: str) -> None:
    attempt, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        attempt(module(backend), lambda *shape: backend.array(np.zeros(shape)))


def test_distances_of_close_points_far_from_the_origin(backend: Any) -> None:
    """Single precision: distances are right to its last digits, and gradients are unit vectors,
    however small the distance.
    """
    distances = importlib.import_module(f"{backend.name}_dgm.losses.samples.pairwise").distances
    single = (
        (lambda z: z.float())
        if backend.name == "pyro"
        else (lambda z: z.astype(backend.np.float32))
    )
    x, y = np.array([[1024.0, 0.0], [1024.0, 8.0]]), np.array([[1024.0, 2.0**-12], [1024.0, 8.0]])
    found, (gradient, _) = value_and_gradients(
        backend, lambda x, y: distances(single(x), single(y)), x, y
    )
    np.testing.assert_allclose(found, [[2.0**-12, 8.0], [8.0 - 2.0**-12, 0.0]], rtol=1e-6)
    np.testing.assert_allclose(gradient, [[0.0, -2.0], [0.0, 1.0]], atol=1e-3)
