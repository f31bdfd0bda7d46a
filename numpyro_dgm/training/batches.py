"""The data of a run: arrays on the device, shuffled there, or any iterable of batches; and what can
be done to a batch.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from dgm_core.training.batches import (
    Form,
    as_numbers,
    check_iterable,
    length_of,
    narrowed,
    num_rows,
    opened,
    split_rows,
)
from dgm_core.training.bucketed import Bucketed, Buckets, cut
from dgm_core.training.unpaired import Unpaired, sizes_of

__all__ = ["binarize"]


def binarize(batch: Any, *, key: Array) -> Any:
    """x ~ Bernoulli(x) anew at every pass: dynamic binarization, of the array, of the first array
    of a tuple or of the first entry of a dict.
    """
    form, (x, *others) = Form.of(batch)
    return form.build((jax.random.bernoulli(key, x).astype(x.dtype), *others))


class Arrays:
    """Data in memory: an array, a tuple or a dict of arrays with equally many rows, put on the
    device once.

    Attributes:
        form: how they are put together.
        arrays: the data, row by row.
        num_data: how many data there are.
        sizes: the numbers of rows of data without pairs, of which num_data is the largest.
        buckets: of sequences by their lengths, None for all other data.
        batch_size: rows of a batch.
        num_full: full batches in an epoch.
        num_batches: with the last, smaller one. `shrink` takes a batch size beyond the number of
            data for all of them.

    Raises:
        ValueError: for empty data, unequal lengths, entries that are no arrays and a batch size
            that does not fit.
    """

    def __init__(
        self,
        data: Any,
        batch_size: int | None = None,
        *,
        drop_last: bool = False,
        shrink: bool = False,
        name: str = "data",
        put: Callable[[Any], Any] = jax.device_put,
    ) -> None:
        self.form, entries = Form.of(data)
        arrays = tuple(as_array(entry, self.form.label(i, name)) for i, entry in enumerate(entries))
        self.sizes: tuple[int, ...] = ()  # of data without pairs
        if isinstance(data, Unpaired):
            labels = list(self.form.labeled(arrays, name))
            self.sizes = sizes_of(labels, arrays, batch_size)
        self.buckets: Buckets | None = None
        if isinstance(data, Bucketed):
            self.buckets = Buckets(data[1], arrays[0].shape[1], data.width)
        self.num_data = max(self.sizes) if self.sizes else num_rows(self.form, arrays, name)
        if shrink and batch_size is not None:
            batch_size = min(batch_size, self.num_data)
        self.batch_size, self.num_full, self.num_batches = split_rows(
            self.num_data, batch_size, drop_last
        )
        self.arrays = put(arrays)

    def first(self) -> tuple[Form, tuple[Array | None, ...]]:
        """A batch to look at."""
        whole = self.batch_size == self.num_data
        return self.form, self.take(None if whole else jnp.arange(self.batch_size))

    def order(self, key: Array) -> Array | None:
        """The order of the data in an epoch, of data without pairs those of each array, side by
        side; None, the order in which they lie, where a batch holds all of them.
        """
        if self.batch_size == self.num_data:
            return None
        if self.buckets is not None:
            rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
            return jnp.asarray(self.buckets.order(self.batch_size, rng))
        if not self.sizes:
            return jax.random.permutation(key, self.num_data)
        return jnp.stack([self._repeated(key, *own) for own in enumerate(self.sizes)], 1)

    def _repeated(self, key: Array, index: int, size: int) -> Array:
        """Permutations of one array, one behind the other."""
        keys = jax.random.split(jax.random.fold_in(key, index), -(-self.num_data // size))
        orders = jax.vmap(lambda key: jax.random.permutation(key, size))(keys)
        return orders.reshape(-1)[: self.num_data]

    def take(self, rows: Array | None) -> tuple:
        """The arrays of these rows; sequences in buckets are cut to the longest."""
        taken = take_rows(self.arrays, rows)
        if rows is None or self.buckets is None:
            return taken
        return cut(taken, self.buckets.steps(rows))

    def num_rows(self, index: int) -> int:
        """The size of a batch."""
        return (
            self.batch_size
            if index < self.num_full
            else self.num_data - self.num_full * self.batch_size
        )


class Stream:
    """Batches from an iterable, or from a callable that returns one, run through once per epoch.

    Raises:
        ValueError: for an epoch without batches and for an iterator where there are several epochs.
        TypeError: for what cannot be iterated.
    """

    num_data = batch_size = None

    def __init__(
        self,
        data: Any,
        num_epochs: int = 1,
        *,
        name: str = "data",
        put: Callable[[Any], Any] = jax.device_put,
    ) -> None:
        self.data, self.put, self.name = data, put, name
        self.used_up = check_iterable(data, num_epochs, name)
        self.num_batches = length_of(data)
        self._peeked: Iterator[tuple[Form, tuple]] | None = None

    def first(self) -> tuple[Form, tuple[Array | None, ...]]:
        """The first batch, which the next epoch gives again."""
        batches = self.epoch()
        first = next(batches, None)
        if first is None:
            raise ValueError("The data are empty: the iterable gives no batches.")
        self._peeked = itertools.chain([first], batches) if self.used_up else None
        return first

    def epoch(self) -> Iterator[tuple[Form, tuple[Array | None, ...]]]:
        """The batches of an epoch as (form, arrays on the device)."""
        if self._peeked is not None:
            peeked, self._peeked = self._peeked, None
            yield from peeked
            return
        for batch in opened(self.data, self.name):
            form, entries = Form.of(batch)
            yield (
                form,
                self.put(
                    tuple(
                        as_array(entry, form.label(i, self.name)) for i, entry in enumerate(entries)
                    )
                ),
            )


def take_rows(arrays: tuple, rows: Array | None) -> tuple:
    """Some rows (batch,) of every array, or (batch, arrays) of data without pairs; all of them for
    None.
    """
    if rows is None:
        return arrays
    if rows.ndim == 2:
        return tuple(array[own] for array, own in zip(arrays, rows.T, strict=True))
    longest = max(len(array) for array in arrays if array is not None)
    if any(array is not None and len(array) < longest for array in arrays):
        return tuple(array[rows % len(array)] for array in arrays)
    return tuple(
        None if array is None else array.at[rows].get(mode="promise_in_bounds") for array in arrays
    )


def as_array(entry: Any, label: str) -> Any:
    """In a type that JAX calculates with; half precision in single."""
    if entry is None:
        return None
    if not isinstance(entry, Array):
        array = as_numbers(entry, label)
        entry = narrowed(array, jax.dtypes.canonicalize_dtype(array.dtype), label)
    if entry.ndim == 0:
        raise ValueError(
            f"{label} must be an array of numbers with one row per datum, got a single number."
        )
    if entry.dtype in (jnp.float16, jnp.bfloat16):
        entry = entry.astype(jnp.result_type(float))
    return entry
