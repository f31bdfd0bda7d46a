"""The best restoration of normal images, which is linear: what Wiener's filter is made for, and the
yardstick of learned ones.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from dgm_core.arguments import check_count, check_floats, check_number, check_seed, refuse

__all__ = ["LinearRestorer", "linear_restorer"]


class LinearRestorer(NamedTuple):
    """What is known of x ~ Normal(mean, C) from y = A x + e:  gain (inputs, outputs), of
    mean + gain (y - A mean);  covariance (inputs, inputs), of x given y;  information, I(x; y) in
    nats, infinite without noise;  error, the smallest mean squared error of an entry.
    """

    mean: np.ndarray
    operator: np.ndarray
    gain: np.ndarray
    covariance: np.ndarray
    information: float

    @property
    def error(self) -> float:
        """The mean variance of the entries that y leaves open in part, all of them as a rule."""
        return float(np.trace(self.covariance) / len(self.covariance))

    def restore(self, y: Any) -> np.ndarray:
        """E[x | y] (num, inputs) of y (num, outputs), which may have the shape of images."""
        y = check_floats("y", y)
        rows, outputs = y.reshape(len(y), -1), self.operator.shape[0]
        if rows.shape[1] != outputs or not np.isfinite(rows).all():
            refuse("y", f"rows of {outputs} finite numbers", y)
        return self.mean + (rows - self.operator @ self.mean) @ self.gain.T

    def draws(self, y: Any, num_draws: int, *, seed: int) -> np.ndarray:
        """Draws of x given y, (num_draws, num, inputs)."""
        num_draws, seed = check_count("num_draws", num_draws), check_seed("seed", seed, 0)
        mean = self.restore(y)
        values, vectors = np.linalg.eigh(self.covariance)
        root = vectors * np.sqrt(np.maximum(values, 0.0))
        noise = np.random.default_rng(seed).standard_normal((num_draws, *mean.shape))
        return mean + noise @ root.T


def linear_restorer(
    covariance: Any, operator: Any, noise_variance: float, *, mean: Any = None
) -> LinearRestorer:
    """E[x | y] and Cov(x | y) for x ~ Normal(mean, C), y = A x + e, e ~ Normal(0, v I):

    gain = C A' (A C A' + v I)^-1,  Cov(x | y) = C - gain A C,
    I(x; y) = ln det(I + A C A' / v) / 2.

    For other images with this mean and covariance it is the best *linear* restoration (Wiener).

    Args:
        covariance: C (inputs, inputs), of the flattened images.
        operator: A (outputs, inputs), as `operator_matrix` gives it.
        noise_variance: v, 0 for none.
        mean: (inputs,), default zeros.

    Raises:
        ValueError: for shapes that do not fit, a C that is not symmetric and positive, and without
            noise for rows of A that say the same.

    Cost:
        one solution with a matrix (outputs, outputs).

    Example:
        >>> best = linear_restorer(np.eye(2), np.eye(2), 0.25)
        >>> round(best.error, 4), round(best.information, 4)
        (0.2, 1.6094)
    """
    covariance, operator = (
        check_floats("covariance", covariance),
        check_floats("operator", operator),
    )
    variance = check_number("noise_variance", noise_variance, least=0)
    size = len(covariance) if covariance.ndim == 2 else 0
    good = size and covariance.shape == (size, size) and np.isfinite(covariance).all()
    if not good or not np.allclose(covariance, covariance.T, atol=1e-8 * abs(covariance).max()):
        refuse("covariance", "a symmetric matrix of finite numbers", covariance)
    if operator.ndim != 2 or operator.shape[1] != size or not np.isfinite(operator).all():
        refuse("operator", f"a matrix (outputs, {size}) of finite numbers", operator)
    mean = np.zeros(size) if mean is None else check_floats("mean", mean).reshape(-1)
    if mean.shape != (size,) or not np.isfinite(mean).all():
        refuse("mean", f"{size} finite numbers", mean)
    seen = operator @ covariance
    spread = seen @ operator.T + variance * np.eye(len(operator))
    lowest = np.linalg.eigvalsh(spread)[0]
    if np.linalg.eigvalsh(covariance)[0] < -1e-8 * abs(covariance).max():
        refuse("covariance", "positive semi-definite", covariance)
    if lowest <= 1e-12 * np.trace(spread) / len(spread):
        refuse("noise_variance", "positive where rows of the operator say the same", variance)
    gain = np.linalg.solve(spread, seen).T
    information = np.inf
    if variance:
        ratio = np.linalg.slogdet(spread)[1] - len(operator) * np.log(variance)
        information = float(ratio / 2)
    left = covariance - gain @ seen
    return LinearRestorer(mean, operator, gain, (left + left.T) / 2, information)
