"""What every loader returns: one data set in three splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from dgm_core.arguments import check_count, check_seed, refuse

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Dataset:
    """A data set in three splits, float32.

    Args:
        name: what `load` was asked for.
        train, validation, test: (num_data, x_dim), or (num_data, time, x_dim) for sequences, padded
            with zeros.
        image_shape: (channels, height, width) when a row is an image, channel first in both
            backends.
        levels: number of gray levels, on the grid 0, 1 / (levels - 1), ..., 1, when the values are
            quantized.
        labels: class numbers per split, when there are any.
        lengths: number of time steps of each sequence per split, for sequences.
        scaling: (mean, standard deviation) per column that were taken out, when the columns were
            standardized.
    """

    name: str
    train: np.ndarray = field(repr=False)
    validation: np.ndarray = field(repr=False)
    test: np.ndarray = field(repr=False)
    image_shape: tuple[int, int, int] | None = None
    levels: int | None = None
    labels: dict[str, np.ndarray] | None = field(default=None, repr=False)
    lengths: dict[str, np.ndarray] | None = field(default=None, repr=False)
    scaling: tuple[np.ndarray, np.ndarray] | None = field(default=None, repr=False)

    @property
    def x_dim(self) -> int:
        """The size of the last axis: pixels, keys or columns."""
        return self.train.shape[-1]

    @property
    def num_classes(self) -> int:
        """The number of classes. Raises ValueError when there are no labels."""
        if self.labels is None:
            raise ValueError(f"The data set {self.name!r} has no labels.")
        return 1 + max(int(labels.max(initial=0)) for labels in self.labels.values())


def split_indices(num_data: int, sizes: Sequence[int], seed: int) -> list[np.ndarray]:
    """Cut a seeded permutation of range(num_data) into a first part of what is left over and parts
    of the given sizes.

    Raises:
        ValueError: when the sizes leave nothing for the first part.

    Example:
        >>> train, validation, test = split_indices(10, (2, 3), seed=0)
        >>> len(train), len(validation), len(test)
        (5, 2, 3)
        >>> sorted([*train, *validation, *test]) == list(range(10))
        True
    """
    num_data, seed = check_count("num_data", num_data, 0), check_seed("seed", seed, 0)
    held_out = tuple(sizes) if isinstance(sizes, (tuple, list)) else ()
    if not held_out or not all(isinstance(size, (int, np.integer)) for size in held_out):
        refuse("sizes", "a sequence of integers", sizes)
    if min(sizes) < 0 or sum(sizes) >= num_data:
        raise ValueError(
            f"The splits must leave data to train on: {num_data} data, held out {tuple(sizes)}."
        )
    order = np.random.default_rng(seed).permutation(num_data)
    ends = np.cumsum([num_data - sum(sizes), *sizes])
    return np.split(order, ends[:-1])


def standardize(
    splits: Sequence[np.ndarray], reference: np.ndarray
) -> tuple[list[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Each split minus the mean of `reference`, over its standard deviation (1 where a column is
    constant).
    """
    mean, deviation = reference.mean(0), reference.std(0)
    deviation = np.where(deviation > 0, deviation, 1.0)
    return [(part - mean) / deviation for part in splits], (mean, deviation)
