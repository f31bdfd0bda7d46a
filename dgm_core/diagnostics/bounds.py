"""Bounds on log p(x) from importance weights, and how many of them count.

All functions take numpy arrays with the particles in front, (num_particles, *batch), and return one
number per datum, (*batch,), computed in float64. Every bound is in nats.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import comb, logsumexp

from dgm_core.arguments import check_count, check_counts, check_floats, refuse

__all__ = [
    "bits_per_dim",
    "checked_log_weights",
    "effective_sample_size",
    "evidence_error",
    "iwae_bound",
    "jvi_bound",
    "jvi_coefficients",
]


def iwae_bound(log_w: np.ndarray) -> np.ndarray:
    """The importance-weighted bound L_K = log (1/K) sum_k w_k, (num_particles, *batch) ->
    (*batch,).

    E[L_K] <= log p(x), does not decrease with K and is the ELBO for K = 1; its bias is about -chi^2
    / (2 K).

    References:
        Burda, Grosse & Salakhutdinov (2016), arXiv:1509.00519.

    Example:
        >>> iwae_bound(np.log([[1.0], [3.0]])) - math.log(2.0) < 1e-15
        array([ True])
    """
    log_w = checked_log_weights(log_w)
    return logsumexp(log_w, axis=0) - math.log(len(log_w))


def jvi_coefficients(num_particles: int, order: int) -> np.ndarray:
    """c(K, m, j) = (-1)^j (K - j)^m / ((m - j)! j!), j = 0..m: what the jackknife of order m gives
    to L_{K-j}.

    They sum to one. Reference: Nowozin (2018), Debiasing evidence approximations, ICLR.

    Example:
        >>> jvi_coefficients(8, 1)
        array([ 8., -7.])
    """
    num_particles = check_count("num_particles", num_particles)
    if isinstance(order, bool) or not isinstance(order, int | np.integer):
        check_count("order", order, 0)
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

    Cost:
        one sort; order 2 about 16 logarithms per particle instead of K / 2, since pairs of small
        weights are summed by a power series that is exact to rounding.

    References:
        Nowozin (2018), Debiasing evidence approximations, ICLR.
    """
    if order not in (0, 1, 2):
        raise ValueError(f"order must be 0, 1 or 2, got {order}.")
    log_w = checked_log_weights(log_w)
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

    Example:
        >>> effective_sample_size(np.zeros((10, 2)))
        array([10., 10.])
    """
    log_w = checked_log_weights(log_w)
    with np.errstate(invalid="ignore"):
        return np.exp(2 * logsumexp(log_w, axis=0) - logsumexp(2 * log_w, axis=0))


def evidence_error(log_w: np.ndarray) -> np.ndarray:
    """The standard error of `iwae_bound` as an estimate of log p(x), (num_particles, *batch) ->
    (*batch,): that of the mean weight, relative to it.

    sqrt((K / ESS - 1) / (K - 1)), by the delta method; NaN for one particle. Weights with heavy
    tails have a larger one than is seen in them: look at k-hat.

    Example:
        >>> evidence_error(np.log([[1.0], [3.0]])).round(6)  # sd of the mean 1, mean 2
        array([0.5])
    """
    log_w = checked_log_weights(log_w)
    return relative_error(effective_sample_size(log_w), len(log_w))


def relative_error(ess: np.ndarray, num_particles: int) -> np.ndarray:
    """The standard error of a mean of so many weights, relative to it, from their effective number.

    Example:
        >>> relative_error(np.array([10.0]), 10)
        array([0.])
    """
    if num_particles == 1:
        return np.full(np.shape(ess), np.nan)
    return np.sqrt(np.maximum(num_particles / ess - 1, 0) / (num_particles - 1))


def bits_per_dim(
    log_likelihood: float | np.ndarray,
    num_dims: int,
    levels: int = 256,
    *,
    log_det: float | np.ndarray = 0.0,
) -> float | np.ndarray:
    """-(log p(y) + log |dy / dx|) / (D ln 2) + log2(levels), for a density of y = f(x), x the
    pixels dequantized to [0, 1].

    With pixels u in 0, ..., levels - 1 and noise on [0, 1) the density of u + noise is that of
    x = (u + noise) / levels divided by levels^D, which gives the second term. By Jensen's
    inequality its mean over the noise is a *lower* bound on log P(u), so these bits are an upper
    bound; of a bound on log p they are one as well.

    Args:
        log_likelihood: log p(y) in nats per datum, any shape.
        num_dims: D, pixels times channels.
        levels: gray levels per pixel; 1 for a likelihood that already gives probabilities of the
            gray levels, or a density of pixels that were not scaled.
        log_det: log |dy / dx| of what was applied after the scaling, per datum: what
            `logit_transform` returns beside y; 0 where the density is that of pixels in [0, 1].

    Raises:
        ValueError: for bad sizes, and for numbers that are NaN or +inf.

    References:
        Theis, van den Oord and Bethge (2016), A note on the evaluation of generative models,
        arXiv:1511.01844; Papamakarios et al. (2017), arXiv:1705.07057, for the logit.

    Example:
        >>> round(bits_per_dim(0.0, 784), 9)  # the uniform density on [0, 1]
        8.0
    """
    num_dims, levels = check_counts(num_dims=num_dims, levels=levels)
    for name, value in (("log_likelihood", log_likelihood), ("log_det", log_det)):
        if not (check_floats(name, value) < np.inf).all():  # NaN is not
            refuse(name, "free of NaN and +inf", value)
    return -(log_likelihood + log_det) / (num_dims * math.log(2)) + math.log2(levels)


def checked_log_weights(log_w: np.ndarray) -> np.ndarray:
    """Log weights in float64. Raises ValueError without particles, and for NaN or +inf."""
    log_w = check_floats("log_w", log_w)
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
    """Mean over i of log (1 - p_i), p the normalized weights; the largest may be close to one, so
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
