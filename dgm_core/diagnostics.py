"""How good an approximation is, from log importance weights log w_k = log p(x, z_k) - log q(z_k |
x), z_k ~ q.

All functions take numpy arrays with the particles in front, (num_particles, *batch), and return one
number per datum, (*batch,), computed in float64. Every bound is in nats.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping

import numpy as np
from scipy.special import comb, logsumexp

from dgm_core.results import format_table

KHAT_BANDS = (
    (-np.inf, 0.5, "k < 0.5"),
    (0.5, 0.7, "0.5 <= k < 0.7"),
    (0.7, 1.0, "0.7 <= k < 1"),
    (1.0, np.inf, "k >= 1"),
)
_MIN_KHAT_PARTICLES = 25


def iwae_bound(log_w: np.ndarray) -> np.ndarray:
    """The importance-weighted bound L_K = log (1/K) sum_k w_k, (num_particles, *batch) ->
    (*batch,).

    E[L_K] <= log p(x), does not decrease with K and is the ELBO for K = 1; its bias is about -chi^2
    / (2 K).

    Reference: Burda, Grosse & Salakhutdinov (2016), arXiv:1509.00519.

    >>> iwae_bound(np.log([[1.0], [3.0]])) - math.log(2.0) < 1e-15
    array([ True])
    """
    log_w = _checked(log_w)
    return logsumexp(log_w, axis=0) - math.log(len(log_w))


def jvi_coefficients(num_particles: int, order: int) -> np.ndarray:
    """c(K, m, j) = (-1)^j (K - j)^m / ((m - j)! j!), j = 0..m: what the jackknife of order m gives
    to L_{K-j}.

    They sum to one. Reference: Nowozin (2018), Debiasing evidence approximations, ICLR.

    >>> jvi_coefficients(8, 1)
    array([ 8., -7.])
    """
    if order < 0:
        raise ValueError(f"order must be at least 0, got {order}.")
    if num_particles <= order:
        raise ValueError(
            f"The jackknife of order {order} needs at least {order + 1} particles, got "
            f"{num_particles}."
        )
    factorial = math.factorial
    return np.array(
        [
            (-1) ** j * (num_particles - j) ** order / (factorial(order - j) * factorial(j))
            for j in range(order + 1)
        ]
    )


def jvi_bound(log_w: np.ndarray, order: int = 1) -> np.ndarray:
    """The jackknife estimate of log p(x): sum_j c(K, m, j) L_{K-j}, (num_particles, *batch) ->
    (*batch,).

    L_{K-j} is the exact mean of the IWAE bound over all subsets of K - j particles, so no subset is
    drawn at random. The bias falls from O(1/K) to O(K^-(m+1)). *Not* a lower bound: the bias of
    order 1 can be positive.

    Args:
        log_w: (num_particles, *batch).
        order: m = 0 (the IWAE bound), 1 or 2. NaN where fewer than m + 1 weights of a datum are
            positive.

    Cost: one sort; order 2 about 16 logarithms per particle instead of K / 2, since pairs of small
    weights are summed by a power series that is exact to rounding.

    Reference: Nowozin (2018), Debiasing evidence approximations, ICLR.
    """
    if order not in (0, 1, 2):
        raise ValueError(f"order must be 0, 1 or 2, got {order}.")
    log_w = _checked(log_w)
    coefficients = jvi_coefficients(len(log_w), order)
    columns = log_w.reshape(len(log_w), -1)
    chunk = max(1, 2**22 // len(log_w))
    values = [
        _jvi(columns[:, start : start + chunk], coefficients)
        for start in range(0, columns.shape[1], chunk)
    ]
    return np.concatenate(values).reshape(log_w.shape[1:]) if values else np.empty(log_w.shape[1:])


def effective_sample_size(log_w: np.ndarray) -> np.ndarray:
    """(sum_k w_k)^2 / sum_k w_k^2, between 1 and K, (num_particles, *batch) -> (*batch,).

    >>> effective_sample_size(np.zeros((10, 2)))
    array([10., 10.])
    """
    log_w = _checked(log_w)
    with np.errstate(invalid="ignore"):
        return np.exp(2 * logsumexp(log_w, axis=0) - logsumexp(2 * log_w, axis=0))


def psis_khat(log_w: np.ndarray) -> np.ndarray:
    """The Pareto shape of the largest weights of each datum, (num_particles, *batch) -> (*batch,).

    Below 0.5 the weights have a finite variance; up to 0.7 importance sampling still works; above 1
    not even their mean exists. Bounded weights have k <= 0, equal ones -inf. Fitted by
    `arviz.psislw`.

    Raises:
        ValueError: with fewer than 25 particles, too few for a tail.

    Reference: Vehtari et al. (2024), Pareto smoothed importance sampling, JMLR 25; Yao et al.
        (2018), arXiv:1802.02538.
    """
    log_w = _checked(log_w)
    if len(log_w) < _MIN_KHAT_PARTICLES:
        raise ValueError(
            f"k-hat needs at least {_MIN_KHAT_PARTICLES} particles, got {len(log_w)}: raise "
            "num_particles."
        )
    rows = log_w.reshape(len(log_w), -1).T
    khat = np.empty(len(rows))
    with warnings.catch_warnings():  # ArviZ announces its next version on import
        warnings.simplefilter("ignore")
        from arviz import psislw
    with np.errstate(all="ignore"):
        varied = np.ptp(rows, axis=1) > 1e-4  # below, rounding is all there is to fit
        khat[~varied] = -np.inf
        if varied.any():
            khat[varied] = psislw(rows[varied].copy())[1]  # it works in place
    return khat.reshape(log_w.shape[1:])


class Report(Mapping[str, np.ndarray]):
    """Bounds and diagnostics by name, each an array with one number per datum; printed as a table.

    Names: "ELBO", "IWAE", "JVI-1", "JVI-2", "ESS", "k-hat" (as far as there are enough particles).
    `mean` and `standard_error` average over the data, `khat_counts` counts the data per band of
    k-hat.
    """

    def __init__(self, per_datum: Mapping[str, np.ndarray], num_particles: int) -> None:
        self._per_datum = dict(per_datum)
        self.num_particles = num_particles
        self.num_data = next(iter(self._per_datum.values())).size

    def __getitem__(self, name: str) -> np.ndarray:
        return self._per_datum[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._per_datum)

    def __len__(self) -> int:
        return len(self._per_datum)

    def mean(self, name: str) -> float:
        """The mean over the data."""
        return float(np.mean(self[name]))

    def standard_error(self, name: str) -> float:
        """The standard error of that mean; NaN for a single datum."""
        values = self[name]
        with np.errstate(invalid="ignore"):  # k-hat may be -inf
            return (
                float(np.std(values, ddof=1) / math.sqrt(values.size))
                if values.size > 1
                else math.nan
            )

    @property
    def khat_counts(self) -> dict[str, int]:
        """How many data lie in each band of k-hat; empty when there were too few
        particles for it.
        """
        if "k-hat" not in self:
            return {}
        khat = self["k-hat"]
        return {band: int(np.sum((low <= khat) & (khat < high))) for low, high, band in KHAT_BANDS}

    def rows(self) -> list[dict[str, str | float]]:
        """The table, one row per quantity: its mean, standard error and range over the data."""
        return [
            {
                "quantity": f"IWAE-{self.num_particles}" if name == "IWAE" else name,
                "mean": self.mean(name),
                "s.e.": self.standard_error(name),
                "min": float(values.min()),
                "max": float(values.max()),
            }
            for name, values in self.items()
        ]

    def to_dict(self) -> dict[str, object]:
        """Means, standard errors and counts as plain numbers, for a JSON file."""
        return {
            "num_data": self.num_data,
            "num_particles": self.num_particles,
            "mean": {name: self.mean(name) for name in self},
            "standard_error": {name: self.standard_error(name) for name in self},
            "khat_counts": self.khat_counts,
        }

    def __str__(self) -> str:
        counts = ", ".join(f"{band}: {count}" for band, count in self.khat_counts.items())
        return format_table(self.rows()) + (f"\ndata per band of k-hat: {counts}" if counts else "")

    __repr__ = __str__


def summary(log_w: np.ndarray) -> Report:
    """Bounds on log p(x) and the quality of the weights, per datum, from log weights
    (num_particles, *batch).

    ELBO (the mean of log w), the IWAE and jackknife bounds, the effective sample size and k-hat.
    The jackknife of order m needs m + 1 particles, k-hat 25; what there are too few for is left
    out.

    Raises:
        ValueError: when `log_w` has no particles, no data, NaN or +inf.

    >>> report = summary(np.zeros((2, 3)))
    >>> report["IWAE"], report.mean("ESS")
    (array([0., 0., 0.]), 2.0)
    """
    log_w = _checked(log_w)
    if log_w.size == 0:
        raise ValueError("log_w holds no data, so there is nothing to summarise.")
    num_particles = len(log_w)
    per_datum = {"ELBO": log_w.mean(0), "IWAE": iwae_bound(log_w)}
    per_datum |= {
        f"JVI-{order}": jvi_bound(log_w, order) for order in (1, 2) if num_particles > order
    }
    per_datum["ESS"] = effective_sample_size(log_w)
    if num_particles >= _MIN_KHAT_PARTICLES:
        per_datum["k-hat"] = psis_khat(log_w)
    return Report(per_datum, num_particles)


def bits_per_dim(
    log_likelihood: float | np.ndarray, num_dims: int, levels: int = 256
) -> float | np.ndarray:
    """-log p(x) / (D ln 2) + log2(levels), for a density of pixels that were dequantised to [0, 1].

    Args:
        log_likelihood: nats per datum, any shape.
        num_dims: D, pixels times channels.
        levels: grey levels per pixel; 1 for a likelihood that already gives probabilities of the
            grey levels.

    >>> round(bits_per_dim(0.0, 784), 9)  # the uniform density on [0, 1]
    8.0
    """
    if num_dims < 1 or levels < 1:
        raise ValueError(f"num_dims and levels must be at least 1, got {num_dims} and {levels}.")
    return -log_likelihood / (num_dims * math.log(2)) + math.log2(levels)


def active_units(z: np.ndarray, threshold: float = 0.01) -> int:
    """The number of latent units whose posterior mean varies over the data: Var_x E[z_u | x] >
    threshold.

    Args:
        z: posterior means (num_data, z_dim), or posterior draws (num_draws, num_data, z_dim). The
            means of two halves of the draws are covaried over the data, so that the noise of the
            draws does not count as activity.

    Reference: Burda, Grosse & Salakhutdinov (2016), arXiv:1509.00519.

    >>> active_units(np.array([[0.0, 1.0], [1.0, 1.0]]))
    1
    """
    z = np.asarray(z, np.float64)
    if z.ndim not in (2, 3) or z.shape[-2] < 2 or (z.ndim == 3 and len(z) < 2):
        raise ValueError(
            "z must be (num_data, z_dim) or (num_draws, num_data, z_dim) with two data and "
            f"draws or more, got {z.shape}."
        )
    first, second = (z, z) if z.ndim == 2 else (z[::2].mean(0), z[1::2].mean(0))
    covariance = ((first - first.mean(0)) * (second - second.mean(0))).mean(0)
    return int(np.sum(covariance > threshold))


def _checked(log_w: np.ndarray) -> np.ndarray:
    log_w = np.asarray(log_w, np.float64)
    if log_w.ndim == 0 or len(log_w) == 0:
        raise ValueError(
            "log_w must be (num_particles, *batch) with a particle or more, got shape "
            f"{log_w.shape}."
        )
    if bad := int(np.sum(np.isnan(log_w) | (log_w == np.inf))):
        raise ValueError(f"log_w must be finite or -inf, got {bad} values that are NaN or +inf.")
    return log_w


def _jvi(log_w: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    """(K, n) -> (n,): L_K + sum_j c_j (L_{K-j} - L_K). The differences are small, so nothing
    cancels.
    """
    num_particles, order = len(log_w), len(coefficients) - 1
    with np.errstate(divide="ignore", invalid="ignore"):
        log_w = -np.sort(-log_w, axis=0)  # largest first
        total = logsumexp(log_w, axis=0)
        bound = total - math.log(num_particles)
        for left_out in range(1, order + 1):
            mean_log = (_log_without_one if left_out == 1 else _log_without_two)(log_w, total)
            difference = mean_log + math.log(num_particles / (num_particles - left_out))
            bound = bound + coefficients[left_out] * difference
        return np.where(np.isfinite(bound), bound, np.nan) if order else bound


def _log_without_one(log_w: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Mean over i of log (1 - p_i), p the normalised weights; the largest may be close to one, so
    its term is a sum.
    """
    first = logsumexp(log_w[1:], axis=0) - total
    return (first + np.log1p(-np.exp(log_w[1:] - total)).sum(0)) / len(log_w)


def _log_without_two(
    log_w: np.ndarray, total: np.ndarray, num_head: int = 15, num_powers: int = 16
) -> np.ndarray:
    """Mean over pairs i < j of log (1 - p_i - p_j), weights sorted from the largest.

    Pairs with the largest weight: the sum over the others, r_1, less p_j <= r_1 / 2; the pair of
    the two largest is a sum. All other pairs have p_i + p_j <= 2/3. Those that hold one of the next
    15 are computed one by one; for the rest
    s = p_i + p_j <= 2/17, and sum log (1 - s) = - sum_m sum s^m / m needs only the power sums of p.
    """
    num_particles = len(log_w)
    without_first = logsumexp(log_w[1:], axis=0)
    pairs = logsumexp(log_w[2:], axis=0) - total
    pairs = (
        pairs
        + (num_particles - 2) * (without_first - total)
        + np.log1p(-np.exp(log_w[2:] - without_first)).sum(0)
    )
    p = np.exp(log_w[1:] - total)
    for index in range(min(num_head, len(p))):
        pairs = pairs + np.log1p(-p[index] - p[index + 1 :]).sum(0)
    tail = p[num_head:]
    powers = [np.full(tail.shape[1:], float(len(tail)))]
    power = np.ones_like(tail)
    for _ in range(num_powers):
        power = power * tail
        powers.append(power.sum(0))
    for m in range(1, num_powers + 1):
        ordered = sum(comb(m, a) * powers[a] * powers[m - a] for a in range(m + 1))
        pairs = pairs - (ordered - 2**m * powers[m]) / (2 * m)
    return pairs / comb(num_particles, 2)
