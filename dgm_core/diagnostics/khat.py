"""The Pareto shape k of the largest importance weights, and the bands in which it is read."""

from __future__ import annotations

import warnings

import numpy as np

from dgm_core.diagnostics.bounds import checked_log_weights

__all__ = ["KHAT_BANDS", "MIN_KHAT_PARTICLES", "psis_khat"]

KHAT_BANDS = (
    (-np.inf, 0.5, "k < 0.5"),
    (0.5, 0.7, "0.5 <= k < 0.7"),
    (0.7, 1.0, "0.7 <= k < 1"),
    (1.0, np.inf, "k >= 1"),
)
MIN_KHAT_PARTICLES = 25
_ATOM = 5  # so many draws of the largest weight say that it is the bound of the weights
_SMALL = 0.05  # the share of a weight that decides nothing


def psis_khat(log_w: np.ndarray) -> np.ndarray:
    """The Pareto shape of the largest weights of each datum, (num_particles, *batch) -> (*batch,).

    Below 0.5 the weights have a finite variance; up to 0.7 importance sampling still works; above 1
    not even their mean exists. Bounded weights have k <= 0. Where the largest weight is an atom, as
    under a discrete guide, the weights are bounded and k is -inf, as it is for equal weights; it is
    NaN where no weight is positive. Fitted by `arviz.psislw`.

    An estimate from the tail of one sample: it is regularized towards 0.5, so that short bounded
    tails read higher than their limit (-1.8 for -2), and it cannot see what was never drawn.

    Raises:
        ValueError: with fewer than 25 particles, too few for a tail.

    References:
        Vehtari et al. (2024), Pareto smoothed importance sampling, JMLR 25; Yao et al. (2018),
        arXiv:1802.02538.

    Example:
        >>> weights = np.random.default_rng(0).choice([1.0, 3.0], (100, 1))  # a discrete guide
        >>> psis_khat(np.log(weights))
        array([-inf])
    """
    log_w = checked_log_weights(log_w)
    if len(log_w) < MIN_KHAT_PARTICLES:
        raise ValueError(
            f"k-hat needs at least {MIN_KHAT_PARTICLES} particles, got {len(log_w)}: "
            "raise num_particles."
        )
    rows = log_w.reshape(len(log_w), -1).T
    khat = np.full(len(rows), -np.inf)
    khat[np.isneginf(rows).all(1)] = np.nan
    fitted = np.array([not _is_bounded(row) for row in rows], bool) & ~np.isnan(khat)
    with warnings.catch_warnings():  # ArviZ announces its next version on import
        warnings.simplefilter("ignore")
        from arviz import psislw
    with np.errstate(all="ignore"):
        if fitted.any():
            khat[fitted] = psislw(rows[fitted].copy())[1]  # it works in place
    for index in np.flatnonzero(np.isposinf(khat)):
        khat[index] = -np.inf if _is_harmless(rows[index]) else np.inf
    return khat.reshape(log_w.shape[1:])


def _is_bounded(log_w: np.ndarray) -> bool:
    """Whether the weights are equal, or the largest is an atom: among few values, drawn often."""
    largest, equal = _largest(log_w)
    if not np.isfinite(largest[0]) or largest[0] - log_w.min() <= 1e-4:
        return True
    often = np.sum(largest[0] - largest <= equal) >= _ATOM
    return bool(often and _num_values(largest, equal) <= len(largest) / 2)


def _is_harmless(log_w: np.ndarray) -> bool:
    """Whether weights without a tail, because a few values are drawn again and again, are small."""
    largest, equal = _largest(log_w)
    share = np.exp(largest[0] - np.logaddexp.reduce(log_w))
    return bool(_num_values(largest, equal) < _ATOM and share < _SMALL)


def _largest(log_w: np.ndarray) -> tuple[np.ndarray, float]:
    """The values of the tail and the next one, and the distance below which two are equal.

    That is a rounding of the precision in which they were computed.
    """
    tail = max(_ATOM, int(np.ceil(min(len(log_w) / 5, 3 * np.sqrt(len(log_w))))))
    largest = -np.sort(-log_w)[: tail + 1]
    single = np.array_equal(log_w, log_w.astype(np.float32))
    rounding = 4 * float(np.finfo(np.float32 if single else np.float64).eps)
    return largest, rounding * max(1.0, abs(largest[0]))


def _num_values(largest: np.ndarray, equal: float) -> int:
    with np.errstate(invalid="ignore"):  # of two weights of zero
        return 1 + int(np.sum(-np.diff(largest) > equal))
