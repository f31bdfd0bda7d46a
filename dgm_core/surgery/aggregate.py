"""The density of the aggregate posterior q(z) = sum_m q(z | x_m) / N at draws of its parts."""

from __future__ import annotations

from typing import Any

import numpy as np

from dgm_core.arguments import check_choice, check_count

__all__ = ["AGGREGATES", "blocks_of", "check_aggregate", "log_aggregate"]

AGGREGATES = ("exact", "stratified", "weighted")


def check_aggregate(aggregate: Any, batch_size: Any) -> tuple[str, int | None]:
    """Raises ValueError for an unknown estimator, and for a batch size without a meaning.

    Example:
        >>> check_aggregate("stratified", 64)
        ('stratified', 64)
    """
    aggregate = check_choice("aggregate", aggregate, AGGREGATES)
    if aggregate != "exact":
        return aggregate, check_count("batch_size", batch_size, 2)
    if batch_size is not None:
        raise ValueError(
            "batch_size is that of the minibatch estimators, and aggregate='exact' scores each "
            f"draw under all data: take aggregate='stratified', or no batch_size, got {batch_size}."
        )
    return aggregate, None


def blocks_of(num_data: int, batch_size: int | None, rng: np.random.Generator) -> list[np.ndarray]:
    """The rows of the data in random blocks of `batch_size` rows or a few more; None: one block.

    Example:
        >>> [len(block) for block in blocks_of(7, 3, np.random.default_rng(0))]
        [4, 3]
    """
    if batch_size is None:
        return [np.arange(num_data)]
    return np.array_split(rng.permutation(num_data), max(1, num_data // batch_size))


def log_aggregate(
    log_q: np.ndarray, own: np.ndarray, num_data: int, aggregate: str = "exact"
) -> np.ndarray:
    """log q(z_n) from log q(z_n | x_m) of the data x_m of a block, (draws, block, *entries) ->
    (draws, *entries).

    With B data in the block and N in all, q(z_n) is estimated by a weighted sum of q(z_n | x_m).
    "exact" (B = N): weights 1 / N. "stratified": 1 / N of the datum that z_n was drawn from, (N -
    1) / (N (B - 1)) of each other one, unbiased for q(z_n). "weighted": 1 / (N B) each.

    Args:
        own: (draws,), the column of the datum that each draw is from.

    References:
        Chen, Li, Grosse and Duvenaud (2018), arXiv:1802.04942, appendix C. Their stratified
        estimator gives one other datum a weight of its own; this is its mean over which one.

    Example:
        >>> log_q = np.log([[0.8, 0.2], [0.2, 0.8]])
        >>> np.exp(log_aggregate(log_q, np.arange(2), 2))
        array([0.5, 0.5])
    """
    if np.isnan(log_q).any() or (log_q == np.inf).any():
        raise ValueError(
            "log q(z_n | x_m) must be finite or -inf, got "
            f"{int(np.isnan(log_q).sum())} NaN and {int((log_q == np.inf).sum())} infinite values."
        )
    draws, size = log_q.shape[:2]
    mine = 1 / (num_data * size) if aggregate == "weighted" else 1 / num_data
    if aggregate == "stratified" and size > 1:
        others = (num_data - 1) / (num_data * (size - 1))
    else:
        others = mine
    weights = np.full((draws, size), others)
    weights[np.arange(draws), own] = mine
    weights = weights.reshape(draws, size, *(1,) * (log_q.ndim - 2))
    top = log_q.max(1, keepdims=True)  # -inf where no datum could have made the draw
    top = np.where(np.isneginf(top), 0.0, top)
    with np.errstate(divide="ignore"):
        return np.asarray(np.log((weights * np.exp(log_q - top)).sum(1)) + top[:, 0])
