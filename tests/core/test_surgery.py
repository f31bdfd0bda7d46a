"""ELBO surgery and estimated divergences, against Gaussians."""

import math

import numpy as np
import pytest
from scipy.stats import norm

from dgm_core.surgery import elbo_surgery, ratio_kl


def test_parts_of_a_linear_gaussian_model() -> None:
    """x ~ Normal(0, v), q(z | x) = Normal(a x, s^2): mean KL, I = log(1 + a^2 v / s^2) / 2 and
    KL(q(z), p(z)) have closed forms.
    """
    rng = np.random.default_rng(0)
    a, s, v, num = 0.7, 0.8, 1.5, 2000
    x = math.sqrt(v) * rng.standard_normal(num)
    z = a * x + s * rng.standard_normal(num)
    found = elbo_surgery(norm.logpdf(z[:, None], a * x, s), norm.logpdf(z))
    total = a**2 * v + s**2
    assert found.mutual_information == pytest.approx(0.5 * math.log(1 + a**2 * v / s**2), abs=0.04)
    assert found.marginal_kl == pytest.approx(0.5 * (total - 1 - math.log(total)), abs=0.03)
    assert found.mean_kl == pytest.approx(0.5 * (total - 1) - math.log(s), abs=0.05)
    assert found.mean_kl == pytest.approx(found.mutual_information + found.marginal_kl, abs=1e-12)


def test_mutual_information_is_at_most_log_n() -> None:
    """Codes that never overlap: each draw is of one datum."""
    log_q = np.where(np.eye(50, dtype=bool), 3.0, -np.inf)
    found = elbo_surgery(log_q, np.zeros(50))
    assert found.mutual_information == pytest.approx(math.log(50))
    assert found.mean_kl == pytest.approx(3.0)
    same = elbo_surgery(np.full((50, 50), -1.0), np.full(50, -1.0))
    assert same[:3] == pytest.approx((0.0, 0.0, 0.0))


@pytest.mark.parametrize(("log_q", "log_p", "message"), [
    (np.zeros((2, 3)), np.zeros(2), (r"log_q must be \(N, N\) and log_p \(N,\), got shapes \(2, "
                                    r"3\) and \(2,\)")),
    (np.zeros((0, 0)), np.zeros(0), "got shapes"),
    (np.array([[-np.inf, 0.0], [0.0, 0.0]]), np.zeros(2), "must be finite"),
])  # fmt: skip
def test_bad_densities_are_refused(log_q: np.ndarray, log_p: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        elbo_surgery(log_q, log_p)


def test_ratio_kl_of_gaussians() -> None:
    """KL(Normal(m, S), Normal(0, I)) = (|m|^2 + tr S - d - log det S) / 2, also for samples of
    unequal size; near zero for equal distributions.
    """
    rng = np.random.default_rng(1)
    mean, factor = np.array([0.5, -0.3]), np.array([[0.8, 0.0], [0.4, 1.1]])
    x, y = mean + rng.standard_normal((6000, 2)) @ factor.T, rng.standard_normal((3000, 2))
    cov = factor @ factor.T
    exact = 0.5 * (mean @ mean + np.trace(cov) - 2 - math.log(np.linalg.det(cov)))
    assert ratio_kl(x, y) == pytest.approx(exact, rel=0.12)
    assert abs(ratio_kl(y[:1500], y[1500:])) < 0.02


def test_ratio_kl_with_another_classifier() -> None:
    """One with probabilities only."""
    from sklearn.neighbors import KNeighborsClassifier

    rng = np.random.default_rng(2)
    x, y = 1 + rng.standard_normal(4000), rng.standard_normal(4000)
    assert ratio_kl(x, y, KNeighborsClassifier(200)) == pytest.approx(0.5, abs=0.1)


def test_bad_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 10 points"):
        ratio_kl(np.zeros(9), np.zeros(20))
    with pytest.raises(ValueError, match="num_folds must be an integer of at least 2, got 1"):
        ratio_kl(np.zeros(9), np.zeros(20), num_folds=1)
    with pytest.raises(ValueError, match="equal events"):
        ratio_kl(np.zeros((20, 2)), np.zeros((20, 3)))
