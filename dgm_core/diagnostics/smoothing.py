"""Importance weights smoothed by a Pareto tail, and draws that are resampled by them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from dgm_core.arguments import check_count, check_seed, refuse
from dgm_core.diagnostics.bounds import checked_log_weights, effective_sample_size
from dgm_core.diagnostics.khat import psis_khat

__all__ = ["Resampled", "UnreliableWeightsError", "psis_weights", "resampled_indices", "taken"]

GOOD_KHAT = 0.7  # above, importance sampling is not to be relied on


class UnreliableWeightsError(ValueError):
    """The importance weights have too heavy a tail to be used.

    Attributes:
        khat: of each datum.
    """

    def __init__(self, khat: np.ndarray) -> None:
        bad = int(np.sum(~(khat <= GOOD_KHAT)))
        super().__init__(
            f"k-hat is {np.nanmax(khat, initial=-np.inf):.2f}, above {GOOD_KHAT} or NaN in {bad} "
            f"of {khat.size} weights: the guide is too far from the posterior for importance "
            "sampling. Use a better guide or `nuts`; force=True goes on all the same."
        )
        self.khat = khat


class Resampled(NamedTuple):
    """Draws from the guide that were resampled towards the posterior.

    draws, {site: (num_draws, ...)};  khat (num_data,), or (1,) of the whole data;  ess, the
    effective number of draws that these came from, likewise.
    """

    draws: Mapping[str, np.ndarray]
    khat: np.ndarray
    ess: np.ndarray


def psis_weights(log_w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pareto smoothed weights, (num_particles, *batch) that sum to one, and k-hat (*batch,).

    The largest weights are replaced by the quantiles of the generalized Pareto distribution fitted
    to them, which trades a little bias for a much smaller variance. Weights without a tail (k-hat
    -inf: bounded ones) stay as they are.

    Raises:
        ValueError: as `psis_khat`, and where all weights of a datum are zero.

    References:
        Vehtari et al. (2024), Pareto smoothed importance sampling, JMLR 25.

    Example:
        >>> weights, khat = psis_weights(np.random.default_rng(0).normal(size=(100, 2)))
        >>> weights.sum(0).round(12), bool((khat < 0.7).all())
        (array([1., 1.]), True)
    """
    log_w, khat = checked_log_weights(log_w), psis_khat(log_w)
    if np.isnan(khat).any():
        raise ValueError(
            f"All weights of {int(np.isnan(khat).sum())} of {khat.size} data are zero: the guide "
            "drew nothing that the model allows there."
        )
    rows, shapes = log_w.reshape(len(log_w), -1).T.copy(), khat.reshape(-1)
    with warnings.catch_warnings():  # ArviZ announces its next version on import
        warnings.simplefilter("ignore")
        from arviz import psislw
    fitted = np.isfinite(shapes)
    if fitted.any():
        with np.errstate(all="ignore"):
            rows[fitted] = psislw(rows[fitted])[0]
    weights = np.exp(rows - rows.max(1, keepdims=True))
    weights /= weights.sum(1, keepdims=True)
    return weights.T.reshape(log_w.shape), khat


def resampled_indices(
    log_w: np.ndarray, num_draws: int, *, force: bool = False, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which particles are drawn, (num_draws, *batch), by their smoothed weights; k-hat and the
    effective sample size (*batch,).

    Drawn with replacement by one stratified pass: a particle of weight w appears num_draws w times,
    up to one more or less, in random order.

    Raises:
        UnreliableWeightsError: for a k-hat above 0.7, unless `force`.
        ValueError: as `psis_weights`.

    Example:
        >>> log_w = np.log(np.tile([0.9, 0.1], 50))
        >>> drawn, khat, ess = resampled_indices(log_w, 1000)
        >>> int((drawn % 2 == 0).sum())
        900
    """
    num_draws, seed = check_count("num_draws", num_draws), check_seed("seed", seed)
    if force not in (True, False):
        refuse("force", "True or False", force)
    weights, khat = psis_weights(log_w)
    if not force and (khat > GOOD_KHAT).any():
        raise UnreliableWeightsError(khat)
    rng = np.random.default_rng(seed % 2**64)
    columns = weights.reshape(len(weights), -1)
    drawn = np.empty((num_draws, columns.shape[1]), int)
    for column in range(columns.shape[1]):
        places = (np.arange(num_draws) + rng.uniform(size=num_draws)) / num_draws
        found = np.searchsorted(np.cumsum(columns[:, column]), places)
        drawn[:, column] = rng.permutation(np.minimum(found, len(weights) - 1))
    with np.errstate(divide="ignore"):
        ess = effective_sample_size(np.log(weights))
    return drawn.reshape(num_draws, *khat.shape), khat, ess


def taken(values: np.ndarray, indices: np.ndarray, axes: Sequence[int]) -> np.ndarray:
    """The particles of a site that were drawn, (num_particles, ...) -> (num_draws, ...), each datum
    its own.

    Args:
        values: leading axes may be missing, and sizes may be 1, where nothing depends on them.
        indices: (num_draws, *sizes), the particle of every draw and datum.
        axes: of the data in values, negative and ascending; () where all share their particles.

    Example:
        >>> taken(np.array([[1, 2], [3, 4]]), np.array([[1, 0]]), [-1])
        array([[3, 2]])
    """
    ndim = max(values.ndim, 1 - min(axes, default=0))
    values = values.reshape(len(values), *(1,) * (ndim - values.ndim), *values.shape[1:])
    shape, full = [1] * ndim, list(values.shape)
    for axis, size in zip(axes, indices.shape[1:], strict=True):
        shape[axis] = full[axis] = size
    values = np.broadcast_to(values, full)
    if len(values) == 1:
        return np.broadcast_to(values, (len(indices), *full[1:])).copy()
    placed = indices.reshape(len(indices), *shape[1:])
    placed = np.broadcast_to(placed, (len(indices), *full[1:]))
    return np.take_along_axis(values, placed, 0)
