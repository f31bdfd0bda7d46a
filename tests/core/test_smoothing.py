"""Pareto smoothed weights, and the draws that they choose."""

import numpy as np
import pytest
from scipy import stats

from dgm_core.diagnostics import (
    UnreliableWeightsError,
    psis_khat,
    psis_weights,
    resampled_indices,
    taken,
)

RNG = np.random.default_rng(0)


def test_only_the_tail_is_smoothed() -> None:
    """Weights of N(0, 1) under N(0, .8^2): k = 1 - .64; the order stays."""
    x = 0.8 * RNG.normal(size=(4000, 2))
    log_w = stats.norm.logpdf(x) - stats.norm(0, 0.8).logpdf(x)
    weights, khat = psis_weights(log_w)
    np.testing.assert_array_equal(khat, psis_khat(log_w))
    np.testing.assert_allclose(weights.sum(0), 1, rtol=1e-12)
    raw = np.exp(log_w)
    ratio = weights / raw
    assert np.all(np.ptp(np.sort(ratio, 0)[400:-400], axis=0) < 1e-12)  # the bulk is as it was
    assert weights.max() < (raw / raw.sum(0)).max() * 1.5
    for column in range(2):
        assert stats.spearmanr(weights[:, column], raw[:, column]).statistic > 0.999999
    assert weights[:, 0] @ x[:, 0] ** 2 == pytest.approx(1, abs=0.15)


def test_bounded_weights_stay_as_they_are() -> None:
    log_w = np.log(RNG.choice([1.0, 3.0], (100, 1)))
    weights, khat = psis_weights(log_w)
    assert khat.tolist() == [-np.inf]
    np.testing.assert_allclose(weights[:, 0], np.exp(log_w[:, 0]) / np.exp(log_w).sum(), rtol=1e-12)


def test_every_particle_appears_as_often_as_its_weight_says() -> None:
    log_w = np.log(np.tile([[4.0, 1.0], [1.0, 1.0]], (50, 1)))
    drawn, _, ess = resampled_indices(log_w, 5000)
    counts = np.bincount(drawn[:, 0], minlength=100)
    np.testing.assert_allclose(counts, 5000 * np.tile([0.016, 0.004], 50), atol=2)
    assert ess == pytest.approx([250**2 / (50 * 17), 100])
    assert np.abs(np.diff(drawn[:20, 1])).max() > 1  # in random order


def test_heavy_tails_are_refused() -> None:
    log_w = RNG.exponential(1.2, size=(1000, 1))  # weights of a Pareto distribution, k = 1.2
    with pytest.raises(UnreliableWeightsError, match=r"above 0.7 or NaN in 1 of 1 weights") as info:
        resampled_indices(log_w, 10)
    assert info.value.khat[0] > 0.7
    assert resampled_indices(log_w, 10, force=True)[0].shape == (10, 1)
    with pytest.raises(ValueError, match="All weights of 1 of 1 data are zero"):
        resampled_indices(np.full((100, 1), -np.inf), 10)


def test_each_datum_takes_its_own_particles() -> None:
    values = RNG.normal(size=(5, 1, 3, 2))  # particles, an inner plate, data, an event of two
    indices = RNG.integers(0, 5, (7, 3))
    found = taken(values, indices, [-2])
    assert found.shape == (7, 1, 3, 2)
    for draw, datum in np.ndindex(7, 3):
        np.testing.assert_array_equal(found[draw, 0, datum], values[indices[draw, datum], 0, datum])
    whole = taken(values, indices[:, 0], [])
    np.testing.assert_array_equal(whole, values[indices[:, 0]])
    shared = taken(values[:1, 0, :1], indices, [-2])  # nothing depends on particle and datum
    np.testing.assert_array_equal(shared, np.broadcast_to(values[0, 0, 0], (7, 3, 2)))
