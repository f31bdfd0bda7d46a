"""Sequences of unequal lengths in batches of similar ones, which are cut to the longest of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dgm_core.arguments import check_count, refuse, shown
from dgm_core.paths import check_lengths

__all__ = ["Bucketed", "Buckets"]


class Bucketed(tuple):
    """Sequences for `fit`, padded to one length T, those of similar lengths in one batch, which is
    cut to its longest one: long data sets of unequal lengths without the time of the padding.

    In every epoch `batch_size` rows at a time, in the order of their lengths and at random where
    these are similar; the batches in random order, and last the rows left over, which are drawn
    first. So every row is equally often in any batch, and the loss of a step is in expectation that
    of rows drawn at random. The model is called as with a tuple, model(x, lengths, *others), on
    sequences of `width`, 2 `width`, ... steps: it must take fewer steps than T, as our sequence
    models and programs with `unroll` do. What is compiled is so for each number of steps.

    Args:
        x: (num_data, T, ...).
        lengths: integers from 0 to T, (num_data,).
        others: further arrays with an entry for each step, such as `observed`, (num_data, T, ...).
        width: lengths are similar that are equal when rounded up to its multiples; at least 2, so
            that every batch has a step that follows another.

    Raises:
        ValueError: for arrays of other shapes and other lengths.

    Example:
        >>> data = Bucketed(np.zeros((3, 40, 2)), np.array([5, 38, 9]), width=10)
        >>> len(data), data.width
        (2, 10)
    """

    width: int

    def __new__(cls, x: Any, lengths: Any, *others: Any, width: int = 16) -> Bucketed:
        width = check_count("width", width, 2)
        shape = tuple(getattr(x, "shape", ()))
        if len(shape) < 2:
            refuse("x", "an array of sequences of shape (num_data, T, ...)", x)
        check_lengths(lengths)
        known = np.asarray(lengths)
        if known.shape != shape[:1] or ((known < 0) | (known > shape[1])).any():
            wanted = f"integers from 0 to {shape[1]} of shape ({shape[0]},)"
            raise ValueError(f"lengths must be {wanted}, got {shown(lengths)}.")
        for other in others:
            if tuple(getattr(other, "shape", ()))[:2] != shape[:2]:
                wanted = f"arrays of shape ({shape[0]}, {shape[1]}, ...), one entry for each step"
                raise ValueError(f"others must be {wanted}, got {shown(other)}.")
        self = super().__new__(cls, (x, lengths, *others))
        self.width = width
        return self

    def __getnewargs_ex__(self) -> tuple[tuple[Any, ...], dict[str, int]]:
        return tuple(self), {"width": self.width}


class Buckets:
    """What batches of `Bucketed` sequences are made of.

    Args:
        lengths: of all sequences.
        length: T.
        width: as in `Bucketed`.

    Example:
        >>> buckets = Buckets([5, 38, 9], 40, 10)
        >>> buckets.steps([0, 2]), buckets.steps([1, 2])
        (10, 40)
    """

    def __init__(self, lengths: Any, length: int, width: int) -> None:
        rounded = -(-np.maximum(np.asarray(lengths), 1) // width) * width
        self.rounded: NDArray[np.int64] = np.minimum(rounded, length).astype(np.int64)

    def steps(self, rows: Any) -> int:
        """The number of steps of a batch of these rows."""
        return int(self.rounded[np.asarray(rows)].max())

    def order(self, batch_size: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """The rows of an epoch, batch by batch, the smaller batch last.

        Example:
            >>> order = Buckets([5, 38, 9, 31], 40, 10).order(2, np.random.default_rng(0))
            >>> sorted(map(sorted, order.reshape(2, 2).tolist()))
            [[0, 2], [1, 3]]
        """
        order = rng.permutation(len(self.rounded))
        rest, full = np.split(order, [len(order) % batch_size])
        full = full[np.argsort(self.rounded[full], kind="stable")].reshape(-1, batch_size)
        return np.concatenate([rng.permutation(full).reshape(-1), rest])


def cut(arrays: Sequence[Any], steps: int) -> tuple[Any, ...]:
    """The arrays of a batch of bucketed sequences with so many steps; lengths stay."""
    return tuple(array if i == 1 else array[:, :steps] for i, array in enumerate(arrays))
