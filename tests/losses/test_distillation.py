"""Distillation: the entropy in closed form, contrasts against closed forms; spectra and the power
loss against Welch's estimate.
"""

from typing import Any

import numpy as np
import pytest
from scipy.signal import welch

N = 40_000
CONTEXT = (np.arange(N) % 2)[:, None] * 1.5  # the datum before has the other context


def kl(mean: float, scale: float) -> float:
    """KL(Normal(mean, scale^2) || Normal(0, 1))."""
    return (mean**2 + scale**2 - 1) / 2 - np.log(scale)


def student(backend: Any) -> Any:
    """x ~ Normal(c + b, exp(t)^2), of a teacher Normal(c, 1)."""
    dist, param = backend.dist, backend.param

    def model(c: Any) -> None:
        with backend.plate("data", len(c)):
            q = dist.Normal(c + param("b"), backend.np.exp(param("t")))
            backend.sample("x", q.to_event(1), obs=0 * c)

    return model


PARAMS = {"b": np.array(0.4), "t": np.array(-0.3)}
OWN, OTHER = kl(0.4, np.exp(-0.3)), (kl(1.9, np.exp(-0.3)) + kl(-1.1, np.exp(-0.3))) / 2


@pytest.mark.parametrize("analytic", [False, True])
def test_contrast_against_the_closed_form(backend: Any, analytic: bool) -> None:
    """The divergence from the own teacher less that from the other's, and their gradients."""
    losses, dist = backend.losses, backend.dist

    def teacher(c: Any) -> Any:
        return dist.Normal(c, 1.0).to_event(1)

    loss = losses.ContrastiveDistillation(teacher, weight=0.2, analytic_entropy=analytic)
    guide = lambda c: None  # noqa: E731
    c = backend.array(CONTEXT)
    _, terms, gradients = backend.evaluate(loss, student(backend), guide, c, params=PARAMS)
    assert terms["ContrastiveDistillation/own"] == pytest.approx(OWN, abs=0.02)
    assert terms["ContrastiveDistillation/other"] == pytest.approx(OTHER, abs=0.03)
    assert terms["ContrastiveDistillation"] == pytest.approx(OWN - 0.2 * OTHER, abs=0.02)
    variance, s = np.exp(-0.6), 0.8 * N  # d/db b^2 / 2 for both contexts; d/dt e^2t / 2 - t
    np.testing.assert_allclose(gradients["b"] / s, 0.4, atol=0.03)
    np.testing.assert_allclose(gradients["t"] / s, variance - 1, atol=0.03)

    alone = losses.ContrastiveDistillation(lambda c: dist.Normal(c[0], 1.0).to_event(1))
    with pytest.raises(ValueError, match="a distribution for each of at least two data"):
        backend.evaluate(alone, student(backend), guide, c, params=PARAMS)


def test_entropy_of_a_student_that_does_not_know_it(backend: Any) -> None:
    dist = backend.dist

    def model(x: Any) -> None:
        with backend.plate("data", len(x)):
            noise = dist.Normal(0.0, 1.0).expand((1,)).to_event(1)
            transform = dist.transforms.AffineTransform(backend.param("b"), 2.0)
            q = dist.TransformedDistribution(noise, [transform])
            backend.sample("x", q, obs=x)

    teacher = lambda x: dist.Normal(0.0, 1.0).expand((1,)).to_event(1)  # noqa: E731
    loss = backend.losses.Distillation(teacher, analytic_entropy=True)
    x, b = backend.array(np.zeros((7, 1))), {"b": np.array(0.4)}
    with pytest.raises(ValueError, match="needs a student with an entropy in closed form"):
        backend.evaluate(loss, model, lambda x: None, x, params=b)


@pytest.mark.parametrize("floor", [None, 0.03])
def test_the_power_loss_is_the_distance_of_mean_spectra(backend: Any, floor: float | None) -> None:
    """By Welch's estimate of both waveforms, of two channels, with and without a logarithm; the
    draws hardly vary.
    """
    rng, dist = np.random.default_rng(0), backend.dist
    data, mean = rng.standard_normal((3, 40, 2)), rng.standard_normal((40, 2))
    frame, hop = 16, 6

    def model(x: Any) -> None:
        with backend.plate("data", len(x)):
            backend.sample("x", dist.Normal(backend.param("m"), 1e-7).to_event(2), obs=x)

    def powers(x: np.ndarray) -> np.ndarray:
        options = {"window": "hann", "nperseg": frame, "noverlap": frame - hop, "detrend": False}
        density = welch(x, axis=-2, **options)[1]
        density[..., 1:-1, :] /= 2  # of positive and negative frequencies
        return density if floor is None else np.log(density + floor)

    scale = {} if floor is None else {"scale": "log", "floor": floor}
    loss = backend.losses.PowerLoss("x", frame=frame, hop=hop, **scale)
    _, terms, gradients = backend.evaluate(
        loss, model, lambda x: None, backend.array(data), params={"m": mean}
    )

    def expected(mean: np.ndarray) -> float:
        return float(np.square(powers(data) - powers(mean)).mean())

    assert terms["PowerLoss(x)"] == pytest.approx(expected(mean), rel=1e-5)
    away = 1e-4 * rng.standard_normal(mean.shape)
    slope = (expected(mean + away) - expected(mean - away)) / 2
    assert (gradients["m"] * away).sum() / len(data) == pytest.approx(slope, rel=1e-4)
    with pytest.raises(ValueError, match="of at least frame = 256 steps, got shape"):
        backend.evaluate(
            backend.losses.PowerLoss("x"),
            model,
            lambda x: None,
            backend.array(data),
            params={"m": mean},
        )


def test_of_a_whisper_only_the_logarithm_is_felt(backend: Any) -> None:
    """Where a draw is e^-a times the datum, of power p at both frequencies:  d/da (p - p e^-2a)^2 =
    4 p^2 e^-2a (1 - e^-2a) vanishes with the draw, d/da (2 a)^2 = 8 a, of logarithms, does not.
    """
    data, a, dist = np.full((3, 16), 1.3), 5.0, backend.dist

    def model(x: Any) -> None:
        with backend.plate("data", len(x)):
            quiet = backend.np.exp(-backend.param("a")) * x
            backend.sample("x", dist.Normal(quiet, 1e-9).to_event(1), obs=x)

    def slope(**scale: Any) -> float:
        loss, array = backend.losses.PowerLoss("x", frame=2, hop=1, **scale), backend.array(data)
        params = {"a": np.array(a)}
        found = backend.evaluate(loss, model, lambda x: None, array, params=params)[2]
        return float(found["a"]) / len(data)

    part = np.exp(-2 * a)
    assert slope() == pytest.approx(4 * 1.3**4 * part * (1 - part), rel=1e-5)
    assert slope(scale="log", floor=1e-15) == pytest.approx(8 * a, rel=1e-5)
    with pytest.raises(ValueError, match="floor is part of the logarithm"):
        backend.losses.PowerLoss("x", floor=1e-5)
