"""k-hat of weights that are bounded, discrete, equal or zero; and what a report says of them."""

import numpy as np
import pytest

from dgm_core.diagnostics import LatentKL, LogWeights, psis_khat, summary

RNG = np.random.default_rng(0)


def discrete(values: list[float], probs: list[float], num_particles: int) -> np.ndarray:
    """Log weights that take few values, for 20 data."""
    weights = np.random.default_rng(1).choice(values, (num_particles, 20), p=probs)
    with np.errstate(divide="ignore"):
        return np.log(weights)


@pytest.mark.parametrize("num_particles", [25, 200, 2000])
@pytest.mark.parametrize(
    ("values", "probs"),
    [
        ([1.0, 3.0], [0.5, 0.5]),
        ([0.0, 1.0], [0.5, 0.5]),
        ([0.2, 1.0, 1.7], [0.7, 0.2, 0.1]),
        ([0.1, 0.5, 0.9, 1.3, 2.0], [0.1, 0.2, 0.3, 0.2, 0.2]),
        (list(np.linspace(0.5, 2.0, 12)), [1 / 12] * 12),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_weights_of_discrete_guides_are_bounded(values, probs, num_particles, dtype) -> None:
    khat = psis_khat(discrete(values, probs, num_particles).astype(dtype))
    few = num_particles < 5 * 12  # the largest of twelve values is then not always drawn five times
    assert np.all(khat[~np.isposinf(khat) if few else slice(None)] < (0.5 if few else 1e-12))


def test_a_rare_large_value_is_harmless_as_long_as_it_decides_nothing() -> None:
    """Three of 1000 weights are 5, the others 1; then they are 1e4, nearly all of the sum."""
    log_w = np.zeros((1000, 2))
    log_w[:3, 0], log_w[:3, 1] = np.log(5.0), np.log(1e4)
    np.testing.assert_array_equal(psis_khat(log_w), [-np.inf, np.inf])


def test_equal_weights_and_no_weights() -> None:
    log_w = np.zeros((100, 3))
    log_w[:, 1] = -np.inf
    log_w[:, 2] = RNG.exponential(1.0, 100)  # Pareto with k = 1
    khat = psis_khat(log_w)
    assert khat[0] == -np.inf and np.isnan(khat[1]) and 0.5 < khat[2] < 1.5


def test_heavy_tails_are_still_found() -> None:
    """Continuous weights, and discrete ones without a bound: 2^n with probability 2^-n, k = 1."""
    for k in (0.3, 0.7, 1.2):
        log_w = k * RNG.exponential(1.0, (20_000, 4))
        np.testing.assert_allclose(psis_khat(log_w), k, atol=0.2)
    powers = RNG.geometric(0.5, (5000, 6)) * np.log(2)
    assert np.all(psis_khat(powers) > 0.4)


def test_data_without_a_positive_weight_are_named_and_lie_in_no_band() -> None:
    log_w = RNG.normal(size=(100, 6))
    log_w[:, [1, 4]] = -np.inf
    report = summary(log_w)
    assert sum(report.khat_counts.values()) == 4
    assert np.isnan(report["k-hat"][[1, 4]]).all()
    assert "2 of 6 data have no positive weight (data 1, 4)" in str(report)
    assert report.to_dict()["notes"] == list(report.notes) != []


def test_an_infinite_khat_lies_in_the_worst_band() -> None:
    log_w = np.full((100, 1), -2000.0)
    log_w[0] = 0.0
    assert summary(log_w).khat_counts["k >= 1"] == 1


def test_a_report_says_which_latent_is_not_used() -> None:
    log_w = np.zeros((30, 2))
    latents = {"z": LatentKL(np.array([0.2, 0.4]), 8), "s": LatentKL(np.array([4.0, 5.0]), 8)}
    report = summary(LogWeights(log_w, latents))
    assert (report.mean("KL z"), report.mean("KL s")) == (pytest.approx(0.3), 4.5)
    (note,) = report.notes
    assert note.startswith("Latent 'z' is hardly used: KL 0.3 nats per datum for 8 entries")
    assert note in str(report)
    assert summary(log_w).notes == ()


def test_weights_are_plain_arrays_to_everything_else() -> None:
    log_w = LogWeights(np.ones((4, 3)), {"z": LatentKL(np.zeros(3), 2)})
    assert isinstance(log_w, np.ndarray) and log_w.dtype == np.float64
    for derived in (log_w + 1, np.exp(log_w), log_w.mean(0), log_w.sum()):
        assert not isinstance(derived, LogWeights)
    assert log_w[:, :2].latents == {} and log_w.copy().latents == {}
    log_w += 1.0
    np.testing.assert_array_equal(log_w, np.full((4, 3), 2.0))
