"""Bounds and diagnostics against closed forms, brute force and published figures."""

import itertools
import math

import numpy as np
import pytest
from scipy.special import digamma, logsumexp

from dgm_core.diagnostics import (
    active_units,
    bits_per_dim,
    effective_sample_size,
    iwae_bound,
    jvi_bound,
    jvi_coefficients,
    psis_khat,
    summary,
)


def toy_log_weights(num_particles, num_data, seed=0):
    """z ~ N(0, 1), x | z ~ N(z, 1), x = 1, q = N(0.5, var 0.8): log p(x) = -1.515512."""
    z = 0.5 + np.sqrt(0.8) * np.random.default_rng(seed).standard_normal((num_particles, num_data))
    log_joint = -0.5 * z**2 - 0.5 * (1 - z) ** 2 - np.log(2 * np.pi)
    return log_joint + 0.5 * (z - 0.5) ** 2 / 0.8 + 0.5 * np.log(2 * np.pi * 0.8)


def brute_force_jvi(log_w, order):
    num_particles = len(log_w)
    bounds = []
    for left_out in range(order + 1):
        subsets = [
            list(kept)
            for kept in itertools.combinations(range(num_particles), num_particles - left_out)
        ]
        bounds.append(
            np.mean(
                [logsumexp(log_w[kept], axis=0) - np.log(len(kept)) for kept in subsets], axis=0
            )
        )
    return np.tensordot(jvi_coefficients(num_particles, order), bounds, axes=1)


# ------------------------------------------------------------
# bounds


@pytest.mark.parametrize(
    ("order", "bias", "digits"), [(0, -0.06380, 5e-6), (1, 1.480e-3, 5e-7), (2, 1.043e-5, 5e-9)]
)
def test_bias_for_gamma_weights(order, bias, digits):
    """Gamma(1, 1) weights: E L_K = psi(K) - ln K and log E w = 0, so the estimate is the bias.
    Published for K = 8.
    """
    particles = 8 - np.arange(order + 1)
    assert jvi_coefficients(8, order) @ (digamma(particles) - np.log(particles)) == pytest.approx(
        bias, abs=digits
    )


@pytest.mark.parametrize("order", [0, 1, 2])
def test_gamma_weights_by_sampling(order):
    log_w = np.log(np.random.default_rng(order).gamma(1.0, size=(8, 200_000)))
    values = jvi_bound(log_w, order)
    particles = 8 - np.arange(order + 1)
    exact = jvi_coefficients(8, order) @ (digamma(particles) - np.log(particles))
    assert abs(values.mean() - exact) < 4 * values.std() / np.sqrt(values.size)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("num_particles", [3, 4, 8, 40])
@pytest.mark.parametrize("spread", [0.0, 1e-3, 1.0, 10.0, 300.0])
def test_jackknife_is_the_mean_over_all_subsets(order, num_particles, spread):
    """Brute force over subsets, from equal weights to one that outweighs all others by hundreds of
    nats.
    """
    log_w = spread * np.random.default_rng(0).standard_normal((num_particles, 5)) - 100
    log_w[:, 0] = np.sort(log_w[:, 0])
    np.testing.assert_allclose(
        jvi_bound(log_w, order), brute_force_jvi(log_w, order), rtol=1e-8, atol=1e-8
    )


@pytest.mark.parametrize("second", [1.0, 1 - 1e-9, 0.5, 1e-12])
def test_jackknife_with_two_dominating_weights(second):
    log_w = np.log(np.concatenate([[1.0, second], np.full(30, 1e-14)]))[:, None]
    np.testing.assert_allclose(jvi_bound(log_w, 2), brute_force_jvi(log_w, 2), rtol=1e-9)


def test_coefficients_sum_to_one():
    for order in range(5):
        assert sum(jvi_coefficients(20, order)) == pytest.approx(1, abs=1e-9)
    np.testing.assert_array_equal(jvi_coefficients(8, 2), [32, -49, 18])


@pytest.mark.parametrize(
    ("num_particles", "expected"),
    [(1, -1.580510), (2, -1.5397), (5, -1.5240), (10, -1.5195), (50, -1.5162)],
)
def test_conjugate_normal_toy(num_particles, expected):
    values = iwae_bound(toy_log_weights(num_particles, 400_000 // num_particles))
    assert abs(values.mean() - expected) < 4 * values.std() / np.sqrt(values.size) + 5e-5


def test_jackknife_reduces_the_bias_of_the_toy():
    log_w = toy_log_weights(10, 400_000)
    bias = [abs(jvi_bound(log_w, order).mean() + 1.515512) for order in (0, 1, 2)]
    assert bias[0] == pytest.approx(0.0040, abs=5e-4)
    assert bias[1] < 0.25 * bias[0]
    assert bias[2] < 0.25 * bias[0]


def test_shapes_and_order_of_particles():
    log_w = np.random.default_rng(0).normal(size=(30, 4, 5)).astype(np.float32)
    for function in (
        iwae_bound,
        jvi_bound,
        lambda w: jvi_bound(w, 2),
        effective_sample_size,
        psis_khat,
    ):
        values = function(log_w)
        assert values.shape == (4, 5)
        assert values.dtype == np.float64
        np.testing.assert_allclose(function(log_w[::-1]), values, rtol=1e-10)
        np.testing.assert_allclose(function(log_w[:, 1, 2]), values[1, 2], rtol=1e-10)
    before = log_w.copy()
    summary(log_w)
    np.testing.assert_array_equal(log_w, before)


def test_weights_of_zero():
    weights = np.array([[1.0, 1.0, 0.0], [0.0, 3.0, 0.0], [0.0, 2.0, 0.0]])
    log_w = np.log(weights, where=weights > 0, out=np.full((3, 3), -np.inf))
    np.testing.assert_allclose(iwae_bound(log_w), [-math.log(3), math.log(2), -np.inf])
    assert np.isnan(jvi_bound(log_w)[[0, 2]]).all()
    np.testing.assert_allclose(effective_sample_size(log_w)[:2], [1, 36 / 14])


# ------------------------------------------------------------
# diagnostics


def test_effective_sample_size():
    np.testing.assert_allclose(effective_sample_size(np.full((10, 2), -700.0)), 10)
    np.testing.assert_allclose(effective_sample_size(np.log([[3.0], [1.0]])), 16 / 10)
    assert effective_sample_size(np.array([[0.0], [-1000.0]]))[0] == 1


@pytest.mark.parametrize("ratio", [0.25, 0.5, 0.75])
def test_khat_of_exponentials(ratio):
    """Target Exp(lp), proposal Exp(lq): k = 1 - lp / lq exactly."""
    x = np.random.default_rng(0).exponential(size=(20_000, 20))  # lq = 1
    khat = psis_khat((1 - ratio) * x)
    assert khat.mean() == pytest.approx(1 - ratio, abs=0.03)
    assert khat.std() < 0.2


def test_khat_is_per_datum_and_orders_guides():
    z = np.random.default_rng(0).standard_normal((2000, 3))
    scale = np.array([1.1, 0.5, 0.2])  # a wide guide has bounded weights, narrow ones do not
    khat = psis_khat(-0.5 * (scale * z) ** 2 + np.log(scale) + 0.5 * z**2)
    assert khat[0] <= 0.1
    assert khat[0] < khat[1] < khat[2]


def test_khat_of_equal_weights():
    np.testing.assert_array_equal(psis_khat(np.full((100, 2), -3.0)), -np.inf)
    rounding = np.random.default_rng(0).normal(-100, 1e-6, size=(100, 2)).astype(np.float32)
    assert np.all(psis_khat(rounding) < 0.5)


def test_summary():
    log_w = toy_log_weights(500, 300)
    report = summary(log_w)
    assert list(report) == ["ELBO", "IWAE", "JVI-1", "JVI-2", "ESS", "k-hat"]
    assert (report.num_particles, report.num_data) == (500, 300)
    assert report["k-hat"].shape == (300,)
    assert report.mean("ELBO") == pytest.approx(-1.580510, abs=5e-3)
    assert report.mean("IWAE") == pytest.approx(-1.5155, abs=2e-3)
    assert report.standard_error("ELBO") == pytest.approx(log_w.mean(0).std(ddof=1) / np.sqrt(300))
    assert sum(report.khat_counts.values()) == 300
    assert "IWAE-500" in str(report)
    assert "data per band of k-hat: k < 0.5: " in str(report)
    contents = report.to_dict()
    assert contents["mean"]["JVI-1"] == report.mean("JVI-1")
    assert contents["num_data"] == 300


@pytest.mark.parametrize(
    ("num_particles", "names"),
    [
        (1, ["ELBO", "IWAE", "ESS"]),
        (2, ["ELBO", "IWAE", "JVI-1", "ESS"]),
        (24, ["ELBO", "IWAE", "JVI-1", "JVI-2", "ESS"]),
    ],
)
def test_summary_leaves_out_what_has_too_few_particles(num_particles, names):
    report = summary(
        np.random.default_rng(0).normal(size=(num_particles,))
    )  # a single, global datum
    assert list(report) == names
    assert report["ELBO"].shape == ()
    assert math.isnan(report.standard_error("ELBO"))
    assert report.khat_counts == {}
    assert "k-hat" not in str(report) and "nan" not in str(report) and " - " in str(report)


def test_khat_bands():
    rng = np.random.default_rng(0)
    x = rng.exponential(size=(5000, 4))
    counts = summary(x * np.array([0.1, 0.6, 0.85, 1.6])).khat_counts
    assert counts == {"k < 0.5": 1, "0.5 <= k < 0.7": 1, "0.7 <= k < 1": 1, "k >= 1": 1}


def test_bits_per_dim():
    assert bits_per_dim(0.0, 784) == pytest.approx(8)
    assert bits_per_dim(784 * math.log(256), 784) == pytest.approx(0)
    assert bits_per_dim(-10 * math.log(2), 10, levels=1) == pytest.approx(1)
    np.testing.assert_allclose(bits_per_dim(np.zeros(3), 5, levels=32), 5)


def test_active_units():
    rng = np.random.default_rng(0)
    means = rng.normal(size=(5000, 4)) * np.sqrt([1.0, 0.02, 0.005, 0.0])
    assert active_units(means) == 2
    assert active_units(means, threshold=0.001) == 3


def test_noise_of_the_draws_is_no_activity():
    rng = np.random.default_rng(0)
    means = rng.normal(size=(2000, 3)) * np.sqrt([1.0, 0.05, 0.0])
    draws = means + rng.normal(
        size=(10, 2000, 3)
    )  # a collapsed unit draws from the prior: its means have variance 0.1
    assert active_units(draws.mean(0)) == 3
    assert active_units(draws) == 2


@pytest.mark.parametrize(
    ("use", "match"),
    [
        (lambda: iwae_bound(np.zeros((0, 3))), r"a particle or more, got shape \(0, 3\)"),
        (lambda: iwae_bound(3.0), "num_particles"),
        (lambda: summary(np.array([[0.0, np.nan]])), "1 values that are NaN"),
        (lambda: summary(np.array([[0.0, np.inf]])), "1 values that are NaN or"),
        (lambda: summary(np.zeros((5, 0))), "no data"),
        (lambda: jvi_bound(np.zeros((8, 2)), 3), "order must be 0, 1 or 2, got 3"),
        (lambda: jvi_bound(np.zeros((2, 2)), 2), "needs at least 3 particles, got 2"),
        (lambda: jvi_coefficients(8, -1), "at least 0, got -1"),
        (lambda: psis_khat(np.zeros((24, 2))), "at least 25 particles, got 24"),
        (lambda: bits_per_dim(0.0, 0), "at least 1, got 0"),
        (lambda: active_units(np.zeros(3)), r"got \(3,\)"),
        (lambda: active_units(np.zeros((1, 5, 3))), r"two data and draws or more, got \(1, 5, 3\)"),
    ],
)
def test_bad_input(use, match):
    with pytest.raises(ValueError, match=match):
        use()
