"""Ranks, their test, their band, and the pictures."""

import numpy as np
import pytest
from scipy import stats

from dgm_core.studies import Calibration, ecdf_band, rank_of, uniformity
from dgm_core.studies.calibration import bin_edges

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("num_draws", [99, 100, 30, 2])
def test_the_test_of_uniform_ranks_keeps_its_level(num_draws: int) -> None:
    """Also where num_draws + 1 is a prime, so that no bins are equal."""
    p = uniformity(RNG.integers(0, num_draws + 1, (300, 2000)), num_draws)
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


def test_bins_hold_as_many_ranks_as_is_expected_of_them() -> None:
    """Seven ranks in bins of 4 and 3: 12 simulations, of which 48 / 7 and 36 / 7 are expected."""
    edges = bin_edges(12, 6)
    np.testing.assert_array_equal(edges, [0, 4, 7])
    ranks = np.array([0, 1, 2, 3, 3, 3, 3, 3, 3, 4, 5, 6])
    expected = 12 * np.array([4, 3]) / 7
    statistic = ((np.array([9, 3]) - expected) ** 2 / expected).sum()
    assert uniformity(ranks, 6) == pytest.approx(stats.chi2.sf(statistic, 1), rel=1e-12)
    for num, draws in ((10, 1), (100, 100), (1000, 99), (57, 12)):
        edges = bin_edges(num, draws)
        assert edges[0] == 0 and edges[-1] == draws + 1 and np.ptp(np.diff(edges)) <= 1
        assert np.diff(edges).min() * num / (draws + 1) >= 5


@pytest.mark.parametrize(("num", "num_draws"), [(3, 100), (9, 1), (1, 99), (40, 100), (10, 1)])
def test_any_number_of_simulations_and_draws_is_shown(num: int, num_draws: int) -> None:
    found = Calibration({"z": np.arange(num) % (num_draws + 1)}, num_draws)
    assert ("too few simulations for a test, which needs 10" in repr(found)) == (num < 10)
    assert ("p = " in repr(found)) == (num >= 10)
    found.plot_ranks().canvas.draw()


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="needs 10 simulations or more, got 5"):
        uniformity(np.arange(5), 99)
    with pytest.raises(ValueError, match="needs 10 simulations or more, got 5"):
        _ = Calibration({"z": np.arange(5)}, 99).p_value
    for ranks in (np.arange(101), np.arange(-1, 50), np.arange(50.0), np.array(3)):
        with pytest.raises(ValueError, match=r"ranks\['z'\] must be integers from 0 to 99"):
            Calibration({"z": ranks}, 99)
    several = {"z": np.arange(5), "w": np.arange(6)}
    for uneven in ({}, {"z": np.zeros((5, 0), int)}, several):
        with pytest.raises(ValueError, match="ranks must be those of one entry or more, as many"):
            Calibration(uneven, 99)
    for levels in (0, 1, 1.5, (0.5, -0.1), ()):
        with pytest.raises(ValueError, match=r"levels must be a number in \(0, 1\), or"):
            Calibration({"z": np.arange(50)}, 99).coverage(levels)
