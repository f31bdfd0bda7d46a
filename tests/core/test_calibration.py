"""Ranks, their test, their band, and the pictures."""

import numpy as np
import pytest
from scipy import stats

from dgm_core.studies import Calibration, ecdf_band, rank_of, uniformity

RNG = np.random.default_rng(0)


def test_the_test_of_uniform_ranks_keeps_its_level() -> None:
    p = uniformity(RNG.integers(0, 100, (300, 2000)), 99)
    for level in (0.01, 0.1, 0.5):
        assert (p < level).mean() == pytest.approx(level, abs=4 * np.sqrt(level / 2000))


def test_the_band_holds_all_of_a_uniform_sample_as_often_as_it_says() -> None:
    points, low, high = ecdf_band(150, 99, level=0.9)
    ranks = RNG.integers(0, 100, (1500, 150))
    below = np.stack([(ranks < end).mean(1) for end in np.rint(points * 100)], 1)
    held = ((below >= low) & (below <= high)).all(1).mean()
    assert held == pytest.approx(0.9, abs=0.05)


def test_ties_are_split_at_random() -> None:
    ranks = [rank_of(np.array(1), np.array([0, 1, 1, 2]), RNG).item() for _ in range(3000)]
    np.testing.assert_allclose(np.bincount(ranks) / 3000, [0, 1 / 3, 1 / 3, 1 / 3], atol=0.04)


def test_coverage_contraction_and_bonferroni() -> None:
    truth = RNG.normal(size=(4000, 2))
    x = truth + RNG.normal(size=truth.shape) * [1.0, 0.5]
    sd = np.sqrt([1 / 2, 1 / 5])
    mean = x * [1 / 2, 4 / 5]
    draws = mean + sd * RNG.normal(size=(99, *truth.shape)) * [1.0, 0.7]
    ranks = np.stack([rank_of(t, d, RNG) for t, d in zip(truth, draws.swapaxes(0, 1))])
    sds = {"z": draws.std(0)}
    found = Calibration({"z": ranks}, 99, {"z": truth}, {"z": draws.mean(0)}, sds)
    inside = 2 * stats.norm.cdf(0.7 * stats.norm.ppf(0.95)) - 1
    np.testing.assert_allclose(found.coverage(0.9)["z"], [[0.9, inside]], atol=0.02)
    np.testing.assert_allclose(found.contraction()["z"], [1 / 2, 1 - 0.7**2 / 5], atol=0.03)
    p = found.p_values()["z"]
    assert p[0] > 0.01 and found.p_value == pytest.approx(2 * p[1], rel=1e-12)
    for figure, num in (
        (found.plot_ranks(), 2),
        (found.plot_ecdf(), 2),
        (found.plot_coverage(), 1),
    ):
        assert len(figure.axes) == num
        figure.canvas.draw()


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="got 5 simulations and 99 draws"):
        uniformity(np.arange(5), 99)
    with pytest.raises(ValueError, match="got 50 simulations and 100 draws"):
        uniformity(np.arange(50), 100)
