"""Data sets whose rows have nothing to do with each other, as two domains without pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dgm_core.arguments import shown

__all__ = ["Unpaired", "mixed_orders", "sizes_of"]


class Unpaired(tuple):
    """Several arrays for `fit`, of any numbers of rows, that are not rows of one table.

    A batch has `batch_size` rows of each, drawn apart: every array has an order of its own in every
    epoch. An epoch goes through the longest once; a shorter one begins again, in a new order, as
    often as that takes. The model is called as with a tuple, model(*batch), on equally many rows of
    each; each term of a loss is a mean over the rows of the array that it reads, so that weights
    mean the same whatever the sizes.

    Args:
        arrays: two or more, one after the other.

    Raises:
        TypeError: for fewer than two.

    Example:
        >>> data = Unpaired(np.zeros((7, 2)), np.ones((5, 2)))
        >>> len(data), [len(array) for array in data]
        (2, [7, 5])
    """

    def __new__(cls, *arrays: Any) -> Unpaired:
        if len(arrays) < 2:
            got = shown(arrays[0]) if arrays else "nothing"
            raise TypeError(f"Unpaired takes two or more arrays, Unpaired(x, y), got {got}.")
        return super().__new__(cls, arrays)

    def __getnewargs__(self) -> tuple[Any, ...]:
        return tuple(self)


def sizes_of(
    labels: Sequence[str], arrays: Sequence[Any], batch_size: int | None
) -> tuple[int, ...]:
    """The numbers of rows of data without pairs; ValueError where a batch of equally many rows of
    each cannot be formed.

    Example:
        >>> sizes_of(["data[0]", "data[1]"], [np.zeros(7), np.zeros(5)], 3)
        (7, 5)
    """
    if missing := [label for label, array in zip(labels, arrays) if array is None]:
        raise ValueError(f"Unpaired data must all be arrays, got None as {missing[0]}.")
    sizes = tuple(len(array) for array in arrays)
    if empty := [label for label, size in zip(labels, sizes) if not size]:
        raise ValueError(f"The data are empty: {', '.join(empty)} has no rows.")
    longest = max(sizes)
    if min(sizes) < longest and (batch_size is None or batch_size >= longest):
        raise ValueError(
            f"Unpaired data of {sizes} rows need a batch_size below {longest}, so many rows of "
            f"each, got {batch_size}."
        )
    return sizes


def mixed_orders(sizes: Sequence[int], rng: np.random.Generator) -> NDArray[np.int64]:
    """The order of each array in an epoch, (longest, number of arrays): permutations, one behind
    the other where an array is shorter.

    Example:
        >>> mixed_orders((4, 2), np.random.default_rng(0))[:, 1].reshape(2, 2).sum(1)
        array([1, 1])
    """
    longest = max(sizes)
    columns = [
        np.concatenate([rng.permutation(size) for _ in range(-(-longest // size))])[:longest]
        for size in sizes
    ]
    return np.stack(columns, 1)
