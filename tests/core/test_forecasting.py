"""Scores of forecasts against enumeration and closed forms; the seasonal naive forecast."""

import itertools

import numpy as np
import pytest

from dgm_core.diagnostics import per_step, summary
from dgm_core.forecasting import (
    Forecast,
    coverage,
    crps,
    following,
    interval_score,
    normal_crps,
    seasonal_naive,
)


def test_crps_is_fair() -> None:
    """Its mean over all pairs of draws is the score of their distribution; of many draws it is the
    formula, pair by pair.
    """
    values, x = np.array([0.0, 1.0, 3.5]), 0.8
    exact = abs(values - x).mean() - abs(values[:, None] - values).mean() / 2
    pairs = [crps(np.array(pair)[:, None], [x])[0] for pair in itertools.product(values, repeat=2)]
    assert np.mean(pairs) == pytest.approx(exact, abs=1e-12)
    draws = np.random.default_rng(0).standard_normal((6, 2, 3))
    apart = abs(draws[:, None] - draws).sum((0, 1)) / (2 * 6 * 5)
    x = draws[0] + 0.3
    np.testing.assert_allclose(crps(draws, x), abs(draws - x).mean(0) - apart, atol=1e-12)


def test_crps_of_normal_draws_is_the_closed_form() -> None:
    """Also at places far from the mean, where the signs show."""
    rng = np.random.default_rng(1)
    x, mean, scale = np.array([-3.0, 0.1, 2.0]), np.array([0.5, 0.1, 1.0]), np.array([0.5, 2, 1])
    draws = mean + scale * rng.standard_normal((40, 2000, 3))
    found = np.stack([crps(part, x) for part in draws])
    exact = normal_crps(mean, scale, x)
    assert (abs(found.mean(0) - exact) < 4 * found.std(0) / 40**0.5).all()
    grid = np.linspace(-9, 9, 40_001)  # the integral of (F(y) - 1[y >= x])^2
    from scipy.stats import norm

    for m, s, one, score in zip(mean, scale, x, exact):
        inside = (norm.cdf(grid, m, s) - (grid >= one)) ** 2
        assert np.trapezoid(inside, grid) == pytest.approx(score, abs=1e-3)


def test_intervals() -> None:
    x = np.array([[0.0, 2.0], [-1.0, 5.0]])
    lower, upper = np.array([-0.5, 1.0]), np.array([0.5, 4.0])
    assert coverage(lower, upper, x) == 0.5
    exact = np.array([[1.0, 3.0], [1.0 + 10 * 0.5, 3.0 + 10 * 1.0]])
    np.testing.assert_allclose(interval_score(lower, upper, x, 0.8), exact, atol=1e-12)


def test_the_seasonal_naive_forecast() -> None:
    """The last season again, with one error of the past in the first season and two in the
    second.
    """
    pattern, rises = np.array([1.0, 5.0, 3.0]), np.array([0.0, 2.0, 2.0, 8.0])
    x = (pattern + rises[:, None]).reshape(-1, 1)
    draws = seasonal_naive(x, 5, 3, num_draws=4000)
    assert draws.shape == (4000, 5, 1)
    errors = np.repeat([2.0, 0.0, 6.0], 3) - 8 / 3
    first = np.unique((draws[:, :3, 0] - (pattern + 8)).round(6))
    np.testing.assert_allclose(first, np.unique(errors.round(6)), atol=1e-5)
    exact = np.array([1, 1, 1, 2, 2]) * errors.var()
    np.testing.assert_allclose(draws[..., 0].var(0), exact, rtol=0.1)
    np.testing.assert_allclose(draws[..., 0].mean(0), pattern[[0, 1, 2, 0, 1]] + 8, atol=0.3)


def test_a_forecast() -> None:
    """Scores of each step ahead and of all; sites by name."""
    draws = np.random.default_rng(2).standard_normal((400, 3, 2, 1))
    draws[:, :, 1] *= 2
    forecast = Forecast({"z": draws + 5, "x": draws}, np.array([4, 4, 4]))
    x = np.zeros((3, 2, 1))
    scores = forecast.scores(x)
    assert scores["CRPS"] == pytest.approx(crps(draws, x).mean())
    assert scores["coverage"] == 1 and scores["width"] == pytest.approx(1.5 * 3.29, rel=0.1)
    assert scores["width"] == pytest.approx(scores["interval score"])
    assert forecast.mean("z").shape == (3, 2, 1) and abs(forecast.mean("z") - 5).max() < 0.5
    table = forecast.table(x)
    assert [line.split()[0] for line in table.splitlines()[2:]] == ["1", "2", "all"]
    with pytest.raises(ValueError, match="site must be one of z, x, got 'y'"):
        forecast.mean("y")


def test_what_is_refused() -> None:
    draws, x = np.zeros((2, 3)), np.zeros(3)
    for make, message in (
        (lambda: crps(draws[:1], x), "draws must be two draws or more"),
        (lambda: crps(draws, np.zeros(2)), r"shape of what was forecast, \(3,\), got \(2,\)"),
        (lambda: crps(draws, [0.0, np.nan, 0.0]), "x must be finite to be scored, 1 of 3"),
        (lambda: normal_crps(0.0, 0.0, 1.0), "scale must be positive"),
        (lambda: coverage(1.0, 0.0, x), "lower must be at most upper"),
        (lambda: coverage([0.0, 0.0], [1.0, 1.0], [0.5]), r"\(2,\), got \(1,\)"),
        (lambda: interval_score(0.0, 1.0, x, 90), "level must be a number"),
        (lambda: seasonal_naive(np.zeros((3, 1)), 2, 3), "more than a season of 3 steps"),
        (lambda: following(np.zeros((2, 4, 1)), np.array([1]), 2), "one integer for each"),
        (lambda: following(np.zeros((1, 4, 1)), np.array([3]), 2), "2 steps do not fit behind 3"),
    ):
        with pytest.raises(ValueError, match=message):
            make()


def test_bounds_per_step() -> None:
    """Longer sequences count more; the error is that of a ratio, by the delta method."""
    rng = np.random.default_rng(3)
    lengths = rng.integers(1, 9, 400)
    log_w = -2.5 * lengths + rng.standard_normal((3, 400))
    found = per_step(summary(log_w), lengths)
    mean, error = found["ELBO"]
    assert mean == pytest.approx(log_w.mean(0).sum() / lengths.sum()) and "ESS" not in found
    assert error == pytest.approx(3**-0.5 / lengths.mean() / 20, rel=0.15)
    assert found["IWAE"][0] > mean
    for values, ends, message in (
        ({"ELBO": np.zeros(3)}, np.array([1, 2]), "one number for each of the 2 sequences"),
        ({"ELBO": np.zeros(2)}, np.array([1.0, 2.0]), "lengths must be integers of at least 0"),
        ({"ELBO": np.zeros(2)}, np.array([0, 0]), "all lengths are 0"),
    ):
        with pytest.raises(ValueError, match=message):
            per_step(values, ends)
