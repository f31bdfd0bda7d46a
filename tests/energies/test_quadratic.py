"""A quadratic energy, E = l x^2 / 2, on data of variance 1.5 (and others): what is known of it."""

from typing import Any

import numpy as np
import pytest

from tests.energies.toys import (
    STEP,
    H,
    hadamard,
    nothing,
    numbers,
    part,
    quadratic,
    stock,
    with_noise,
)
from tests.mcmc.faces import transition

VARIANCE = 1.5
# l -> expected CD-1, CD-5, CD-20: d log p / d l as the ends of the chains estimate it
EXPECTED = {
    0.5: (0.02687500, 0.11060456, 0.24021780),
    2 / 3: (0.00333333, 0.01288935, 0.02422475),
    1.0: (-0.04250000, -0.14569035, -0.22037796),
}


def cloud(order: int = 5, variance: float = VARIANCE) -> tuple[np.ndarray, np.ndarray]:
    """Data with exactly this variance, and noise that is exactly standard and uncorrelated."""
    columns = hadamard(order)
    return variance**0.5 * columns[:, 1:2], columns[:, 2:].T[:, :, None]


def test_the_expected_gradient_of_cd(backend: Any) -> None:
    x, noise = cloud()
    model = quadratic(backend)
    for index, k in enumerate((1, 5, 20)):
        kernel = with_noise(backend, STEP, noise[:k])
        loss = backend.losses.ContrastiveDivergence("x", kernel=kernel)
        for rate, expected in EXPECTED.items():
            params = {"l": np.array(rate), "c": np.array(0.3)}
            total, terms, slopes = backend.evaluate(loss, model, nothing, x, params=params)
            assert -slopes["l"] / len(x) == pytest.approx(expected[index], abs=5e-9)
            assert slopes["c"] == pytest.approx(0, abs=1e-9)
            assert terms["ContrastiveDivergence(x)/data"] == pytest.approx(rate * 0.75 - 0.3)
            variance = (1 - H * rate) ** (2 * k) * VARIANCE
            variance += 2 * H * sum((1 - H * rate) ** (2 * i) for i in range(k))
            value = rate * (VARIANCE - variance) / 2
            assert terms["ContrastiveDivergence(x)"] == pytest.approx(value, abs=1e-9)
            assert total == pytest.approx(len(x) * value, abs=1e-8)


@pytest.mark.parametrize(("variance", "k"), [(VARIANCE, 5), (0.7, 1)])
def test_the_fixed_point_of_cd_is_that_of_the_discretized_chain(
    backend: Any, variance: float, k: int
) -> None:
    """l s^2 (1 - h l / 2) = 1 at every k: .69050664, not .66666667; chains that start there with
    the variance of the data keep it. Steps of the stock engine, with noise of exact moments.
    """
    fixed = (1 - (1 - 2 * H / variance) ** 0.5) / H
    assert variance != VARIANCE or fixed == pytest.approx(0.69050664, abs=5e-9)
    x, noise = cloud(4, variance)
    loss = backend.losses.ContrastiveDivergence("x", kernel=with_noise(backend, STEP, noise[:k]))
    slope = sum((1 - H * fixed) ** (2 * i) for i in range(k))
    path = stock(
        backend, quadratic(backend), loss, x, {"l": 0.5, "c": 0.3}, 5 / (variance * slope), 40
    )
    np.testing.assert_allclose(path[-1], [fixed, 0.3], atol=1e-7)
    assert path[0, 0] > 0.5


@pytest.mark.slow
@pytest.mark.parametrize(("kernel", "fixed"), [("Langevin", 0.69050664), ("MALA", 2 / 3)])
def test_persistent_chains_have_the_same_fixed_point(
    backend: Any, kernel: str, fixed: float
) -> None:
    """And a Metropolis correction removes the bias. The mean of the path after it has arrived."""
    losses, start = backend.losses, backend.conditionals.StandardNormal(1)
    chains = losses.Persistent(16_000, per_step=8_000, start=start)
    loss = losses.ContrastiveDivergence(
        "x", kernel=getattr(part(backend, "mcmc"), kernel)(STEP), steps=2, chains=chains
    )
    x, _ = cloud(3)
    path = stock(backend, quadratic(backend), loss, x, {"l": 1.0, "c": 0.0}, 0.15, 450)
    assert path[150:, 0].mean() == pytest.approx(fixed, abs=0.008)


def test_the_stationary_variance_of_uncorrected_steps(backend: Any) -> None:
    """1 / (l (1 - h l / 2)): 2.05128205, 1.55172414, 1.05263158 where 2, 1.5, 1 are meant."""
    for rate, expected in ((0.5, 2.05128205), (2 / 3, 1.55172414), (1.0, 1.05263158)):
        x, noise = cloud(4, expected)

        def log_density(x: Any, rate: float = rate) -> Any:
            return -rate * x[..., 0] ** 2 / 2

        langevin = part(backend, "mcmc").Langevin(STEP, 3)
        state, _ = transition(backend, langevin, log_density, x, noise[:3], np.zeros(len(x)))
        assert np.mean(state.position**2) == pytest.approx(expected, abs=1e-8)


def test_score_matching(backend: Any) -> None:
    """J = (l s)^2 / 2 - l with s^2 the variance: least at l = 1 / s^2, -1 / (2 s^2); the Fisher
    divergence of l = 1 is .08333333. Of the sliced one too, since one number has no slices."""
    model = quadratic(backend)
    for loss in (
        backend.losses.ScoreMatching("x"),
        backend.losses.ScoreMatching("x", method="sliced", num_projections=2),
    ):
        for variance in (VARIANCE, 0.7):
            x, _ = cloud(2, variance)
            best = {"l": np.array(1 / variance), "c": np.array(0.2)}
            total, terms, slopes = backend.evaluate(loss, model, nothing, x, params=best)
            assert terms["ScoreMatching(x)"] == pytest.approx(-1 / (2 * variance))
            assert total == pytest.approx(-len(x) / (2 * variance))
            assert slopes["l"] == pytest.approx(0, abs=1e-9) and slopes["c"] == 0
            other = {"l": np.array(1.0), "c": np.array(0.2)}
            _, terms, slopes = backend.evaluate(loss, model, nothing, x, params=other)
            divergence = terms["ScoreMatching(x)"] + 1 / (2 * variance)
            assert divergence == pytest.approx((1 / variance - 1) ** 2 * variance / 2)
            assert variance != VARIANCE or divergence == pytest.approx(0.08333333, abs=5e-9)
            assert slopes["l"] / len(x) == pytest.approx(variance - 1)


def test_denoising_fits_the_smoothed_density(backend: Any) -> None:
    """l^2 (s^2 + n) / 2 - l + 1 / (2 n) with n the variance of the noise: least at
    1 / (s^2 + n) = .55555556, not at 1 / s^2."""
    denoising = part(backend, "losses.scores.score_matching").denoising
    for variance, noise in ((VARIANCE, 0.3), (0.7, 0.1)):
        x, normal = (backend.array(a) for a in cloud(2, variance))
        for rate in (0.4, 1 / (variance + noise), 1.3):

            def log_density(x: Any, rate: float = rate) -> Any:
                return -rate * x[..., 0] ** 2 / 2

            found = numbers(denoising(log_density, x, normal[0], noise**0.5)).mean()
            expected = rate**2 * (variance + noise) / 2 - rate + 1 / (2 * noise)
            assert found == pytest.approx(expected)
    x, _ = cloud(2)
    loss, x = backend.losses.DenoisingScoreMatching("x", 0.3**0.5), np.tile(x, (5000, 1))
    params = {"l": np.array(0.55555556), "c": np.array(0.2)}
    _, terms, slopes = backend.evaluate(loss, quadratic(backend), nothing, x, params=params)
    assert terms["DenoisingScoreMatching(x)"] == pytest.approx(5 / 3 - 0.27777778, abs=0.05)
    assert slopes["l"] / len(x) == pytest.approx(0, abs=0.05)


def test_noise_contrastive_estimation(backend: Any) -> None:
    """Noise Normal(0, 3), by quadrature: at the optimum l = .666667, c = -1.121671 the cross
    entropy is 2 ln 2 - 2 JS = 1.33128047 for as much noise as data, 2.61994127 for five times as
    much; it is 1.51320367 at l = 1, c = 0. The term has it from draws, and no slope there."""
    cross_entropy = part(backend, "losses.scores.noise_contrastive").cross_entropy
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    weights = weights / weights.sum()

    def at(rate: float, c: float, ratio: int) -> float:
        sides = []
        for variance in (VARIANCE, 3.0):
            x = variance**0.5 * nodes
            noise = -(x**2) / 6 - 0.5 * np.log(6 * np.pi)
            sides.append(backend.array(-rate * x**2 / 2 + c - noise))
        far = backend.array(np.full(len(nodes), 1e3))
        data = np.asarray(cross_entropy(sides[0], -far[None], ratio))
        noise = np.asarray(cross_entropy(far, sides[1][None], ratio))
        return float(weights @ data + ratio * weights @ noise)

    c = -0.5 * np.log(2 * np.pi * VARIANCE)
    assert c == pytest.approx(-1.121671, abs=5e-7)
    assert at(2 / 3, c, 1) == pytest.approx(1.33128047, abs=5e-9)
    assert at(2 / 3, c, 5) == pytest.approx(2.61994127, abs=5e-9)
    assert at(1.0, 0.0, 1) == pytest.approx(1.51320367, abs=5e-9)
    normal = backend.conditionals.Normal(1, scale=3**0.5)
    x = np.random.default_rng(0).normal(0, VARIANCE**0.5, (8000, 1))
    x *= VARIANCE**0.5 / x.std()
    loss = backend.losses.NoiseContrastive("x", normal, ratio=5, learn_noise=False)
    params = {"l": np.array(2 / 3), "c": np.array(c)}
    _, terms, slopes = backend.evaluate(loss, quadratic(backend), nothing, x, params=params)
    assert terms["NoiseContrastive(x)"] == pytest.approx(2.61994127, abs=0.02)
    assert slopes["l"] / len(x) == pytest.approx(0, abs=0.02)
    assert slopes["c"] / len(x) == pytest.approx(0, abs=0.02)
