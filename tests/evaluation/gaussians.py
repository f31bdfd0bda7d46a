"""A linear-Gaussian pair of which every part of the bound is known, with nothing symmetric in it.

x ~ Normal(MEAN, COV);  q(z | x) = Normal(A x + SHIFT, diag(SD^2));  p(z) = Normal(PRIOR_MEAN,
diag(PRIOR_SD^2));  p(x | z) = Normal(W z + C, NOISE^2 I).
"""

from collections.abc import Callable
from typing import Any

import numpy as np

MEAN, COV = (
    np.array([0.7, -0.4, 0.2]),
    np.array([[1.0, 0.5, -0.2], [0.5, 0.8, 0.1], [-0.2, 0.1, 1]]),
)
A, SHIFT = np.array([[0.9, 0.4, -0.3], [-0.2, 0.7, 0.5]]), np.array([0.3, -0.6])
SD, PRIOR_MEAN, PRIOR_SD = np.array([0.5, 0.9]), np.array([0.2, -0.1]), np.array([1.3, 0.8])
W, C, NOISE = np.array([[0.6, -0.2], [0.1, 0.9], [-0.5, 0.3]]), np.array([0.1, 0.4, -0.3]), 0.7


def data(num: int, seed: int = 0) -> np.ndarray:
    """x (num, 3)."""
    return np.random.default_rng(seed).multivariate_normal(MEAN, COV, num)


def exact(own: np.ndarray | None = None) -> dict[str, float]:
    """All parts for the population of x; own, the covariance of q(z | x) where it is not
    diag(SD^2)."""
    own = np.diag(SD**2) if own is None else own
    mean, cov = A @ MEAN + SHIFT, A @ COV @ A.T + own
    variances, prior = np.diag(cov), PRIOR_SD**2
    log_det, log_own = np.linalg.slogdet(cov)[1], np.linalg.slogdet(own)[1]
    entry = 0.5 * (np.log(prior / variances) + (variances + (mean - PRIOR_MEAN) ** 2) / prior - 1)
    information = 0.5 * (log_det - log_own)
    correlation = 0.5 * (np.log(variances).sum() - log_det)
    residual = np.eye(3) - W @ A
    off = residual @ MEAN - W @ SHIFT - C
    squares = np.trace(residual @ COV @ residual.T) + off @ off + np.trace(W @ own @ W.T)
    return {
        "mean_kl": information + correlation + entry.sum(),
        "mutual_information": information,
        "marginal_kl": correlation + entry.sum(),
        "total_correlation": correlation,
        "dimension_wise_kl": entry.sum(),
        "reconstruction": -1.5 * np.log(2 * np.pi * NOISE**2) - squares / (2 * NOISE**2),
    }


def pair(b: Any) -> tuple[Callable, Callable]:
    """Model and guide with one latent site z."""
    d, arrays = b.dist, {n: b.array(v) for n, v in globals().items() if isinstance(v, np.ndarray)}

    def model(x: Any) -> None:
        with b.plate("data", len(x)):
            z = b.sample("z", d.Normal(arrays["PRIOR_MEAN"], arrays["PRIOR_SD"]).to_event(1))
            b.sample("x", d.Normal(z @ arrays["W"].T + arrays["C"], NOISE).to_event(1), obs=x)

    def guide(x: Any) -> None:
        with b.plate("data", len(x)):
            loc = x @ arrays["A"].T + arrays["SHIFT"]
            b.sample("z", d.Normal(loc, arrays["SD"]).to_event(1))

    return model, guide


def assert_near(found: Any, wanted: dict[str, float], least: float = 0.0) -> None:
    """Every part within three standard errors, and the errors small enough to say something."""
    for name, value in wanted.items():
        error = found.standard_errors[name]
        assert abs(getattr(found, name) - value) <= 3 * error + least, name
        assert 0 < error < 0.1, name


def assert_adds_up(found: Any, tolerance: float = 1e-10) -> None:
    """The identities of the parts."""
    assert abs(found.mean_kl - found.mutual_information - found.marginal_kl) < tolerance
    parts = found.total_correlation + found.dimension_wise_kl
    assert abs(found.marginal_kl - parts) < tolerance
    assert abs(found.entry_kl.sum() - found.dimension_wise_kl) < tolerance
