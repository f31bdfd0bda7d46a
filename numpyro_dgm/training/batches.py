"""The data of a run: arrays on the device, shuffled there, or any iterable of batches; and what can
be done to a batch.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

__all__ = ["binarize"]


def binarize(batch: Any, *, key: Array) -> Any:
    """x ~ Bernoulli(x) anew at every pass: dynamic binarisation, of the array, of the first array
    of a tuple or of the first entry of a dict.
    """
    form, (x, *others) = Form.of(batch)
    return form.build((jax.random.bernoulli(key, x).astype(x.dtype), *others))


class Form(NamedTuple):
    """How a batch is put together, kept apart from its arrays because JAX sorts the entries of a
    dict.

    >>> form, arrays = Form.of({"x": 1, "a": 2})
    >>> arrays, form.build((3, 4))
    ((1, 2), {'x': 3, 'a': 4})
    """

    kind: str
    names: tuple[str, ...] = ()

    @classmethod
    def of(cls, batch: Any) -> tuple["Form", tuple]:
        """The form of a batch and its arrays in order."""
        if isinstance(batch, dict):
            return cls("dict", tuple(batch)), tuple(batch.values())
        return (
            (cls("tuple"), tuple(batch))
            if isinstance(batch, (tuple, list))
            else (cls("array"), (batch,))
        )

    def build(self, arrays: tuple) -> Any:
        """A batch of this form."""
        if self.kind == "dict":
            return dict(zip(self.names, arrays, strict=True))
        return tuple(arrays) if self.kind == "tuple" else arrays[0]

    def call(self, arrays: tuple) -> tuple[tuple, dict[str, Any]]:
        """The arguments (args, kwargs) with which model and guide are called."""
        return ((), self.build(arrays)) if self.kind == "dict" else (tuple(arrays), {})

    def label(self, index: int) -> str:
        """How an error names an array."""
        return {
            "dict": f"data[{self.names[index]!r}]" if self.names else "",
            "tuple": f"data[{index}]",
        }.get(self.kind, "data")


def is_in_memory(data: Any) -> bool:
    """Whether `data` is one array, a tuple of arrays or a dict of arrays; everything else is an
    iterable of batches.
    """
    return isinstance(data, (tuple, dict)) or (
        hasattr(data, "__array__") and hasattr(data, "shape")
    )


class Arrays:
    """Data in memory: an array, a tuple or a dict of arrays with equally many rows, put on the
    device once.

    Attributes: form; arrays; num_data; batch_size; num_full, full batches in an epoch; num_batches,
    with the last, smaller one. `shrink` takes a batch size beyond the number of data for all of
    them.
    Raises: ValueError for empty data, unequal lengths, entries that are no arrays and a batch size
        that does not fit.
    """

    def __init__(
        self,
        data: Any,
        batch_size: int | None = None,
        *,
        drop_last: bool = False,
        shrink: bool = False,
        put: Callable[[Any], Any] = jax.device_put,
    ) -> None:
        self.form, entries = Form.of(data)
        arrays = tuple(
            None if entry is None else _as_array(entry, self.form.label(i))
            for i, entry in enumerate(entries)
        )
        lengths = {
            self.form.label(i): len(array) for i, array in enumerate(arrays) if array is not None
        }
        if not lengths:
            raise ValueError(
                "The data hold no arrays: pass an array, a tuple or a dict of arrays, or an "
                "iterable of batches."
            )
        if len(set(lengths.values())) > 1:
            raise ValueError(f"All arrays of the data must have equally many rows, got {lengths}.")
        self.num_data = next(iter(lengths.values()))
        if self.num_data == 0:
            raise ValueError(f"The data are empty: {', '.join(lengths)} has no rows.")
        if batch_size is not None and shrink:
            batch_size = min(batch_size, self.num_data)
        if batch_size is not None and not 1 <= batch_size <= self.num_data:
            raise ValueError(
                f"batch_size must lie between 1 and the number of data {self.num_data}, got "
                f"{batch_size}."
            )
        self.batch_size = self.num_data if batch_size is None else batch_size
        self.num_full, rest = divmod(self.num_data, self.batch_size)
        self.num_batches = self.num_full + (rest > 0 and not drop_last)
        self.arrays = put(arrays)

    def first(self) -> tuple[Form, tuple[Array | None, ...]]:
        """A batch to look at."""
        return self.form, take_rows(
            self.arrays, None if self.batch_size == self.num_data else jnp.arange(self.batch_size)
        )

    def order(self, key: Array) -> Array | None:
        """The order of the data in an epoch; None, the order in which they lie, where a batch holds
        all of them.
        """
        return (
            None if self.batch_size == self.num_data else jax.random.permutation(key, self.num_data)
        )

    def num_rows(self, index: int) -> int:
        """The size of a batch."""
        return (
            self.batch_size
            if index < self.num_full
            else self.num_data - self.num_full * self.batch_size
        )


class Stream:
    """Batches from an iterable, or from a callable that returns one, run through once per epoch.

    Raises: ValueError for an epoch without batches and for an iterator where there are several
        epochs, TypeError for what cannot be iterated.
    """

    num_data = batch_size = None

    def __init__(
        self, data: Any, num_epochs: int = 1, *, put: Callable[[Any], Any] = jax.device_put
    ) -> None:
        if not callable(data) and not hasattr(data, "__iter__"):
            raise TypeError(
                "data must be an array, a tuple or a dict of arrays, or an iterable of "
                "batches, "
                f"got {type(data).__name__}."
            )
        self.data, self.put = data, put
        self.num_batches = len(data) if hasattr(data, "__len__") else None
        self._peeked: Iterator[tuple[Form, tuple]] | None = None
        self.used_up = not callable(data) and iter(data) is data
        if self.used_up and num_epochs > 1:
            raise ValueError(
                "The data are an iterator, which is used up after one epoch: pass a list, a "
                "loader, or a function that returns an iterator."
            )

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
        for batch in self.data() if callable(self.data) else self.data:
            form, entries = Form.of(batch)
            yield (
                form,
                self.put(
                    tuple(
                        None if entry is None else _as_array(entry, form.label(i))
                        for i, entry in enumerate(entries)
                    )
                ),
            )


def take_rows(arrays: tuple, rows: Array | None) -> tuple:
    """Some rows of every array, all of them for None."""
    if rows is None:
        return arrays
    return tuple(
        None if array is None else array.at[rows].get(mode="promise_in_bounds") for array in arrays
    )


def _as_array(entry: Any, label: str) -> Any:
    array = entry if isinstance(entry, jax.Array) else np.asarray(entry)
    if array.ndim == 0 or not (isinstance(array, jax.Array) or array.dtype.kind in "biufc"):
        raise ValueError(
            f"{label} must be an array of numbers with one row per datum, got "
            f"{type(entry).__name__} of shape {array.shape}."
        )
    return array
