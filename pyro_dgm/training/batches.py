"""The data of a run: arrays on the device, shuffled there, or any iterable of batches; and what can
be done to a batch.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

__all__ = ["binarize"]


def binarize(batch: Any) -> Any:
    """x ~ Bernoulli(x) anew at every pass: dynamic binarisation, of the array, of the first array
    of a tuple or of the first entry of a dict.
    """
    form, (x, *others) = Form.of(batch)
    return form.build((torch.bernoulli(x), *others))


class Form(NamedTuple):
    """How a batch is put together, kept apart from its arrays.

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


class Batch(NamedTuple):
    """A batch on the device: its form; its arrays; the numbers of its rows in the data (None: all
    of them, or unknown); its share of the whole batch that several processes work on, times their
    number.
    """

    form: Form
    arrays: tuple[Tensor | None, ...]
    rows: Tensor | None
    share: float = 1.0

    def transformed(self, transform: Callable | None) -> "Batch":
        """The batch as the model sees it."""
        if transform is None:
            return self
        return Batch(*Form.of(transform(self.form.build(self.arrays))), self.rows, self.share)

    @property
    def device(self) -> torch.device:
        """Where it lies."""
        return next(
            (array.device for array in self.arrays if array is not None), torch.get_default_device()
        )

    @property
    def size(self) -> int:
        """How many data it holds."""
        return next((len(array) for array in self.arrays if array is not None), 1)


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

    Args: batch_size, None for all rows; drop_last; shrink, whether a batch may be larger than the
        data; device.
    Attributes: form; arrays; num_data; batch_size; num_full, full batches in an epoch; num_batches,
        with the last, smaller one.
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
        device: torch.device,
    ) -> None:
        self.form, entries = Form.of(data)
        arrays = tuple(
            _as_tensor(entry, self.form.label(i), device) for i, entry in enumerate(entries)
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
        if shrink and batch_size is not None:
            batch_size = min(batch_size, self.num_data)
        if batch_size is not None and not 1 <= batch_size <= self.num_data:
            raise ValueError(
                f"batch_size must lie between 1 and the number of data {self.num_data}, got "
                f"{batch_size}."
            )
        self.batch_size = self.num_data if batch_size is None else batch_size
        self.num_full, rest = divmod(self.num_data, self.batch_size)
        self.num_batches: int | None = self.num_full + (rest > 0 and not drop_last)
        self.arrays = arrays
        self.device = device

    def epoch(self, seed: int, share: tuple[int, int] = (0, 1)) -> Iterator[Batch]:
        """The batches of an epoch in an order drawn from `seed`; of each the part `share` = (index,
        number of parts).
        """
        if self.batch_size == self.num_data and share[1] == 1:
            yield Batch(self.form, self.arrays, None)
            return
        order = torch.randperm(self.num_data, generator=torch.Generator().manual_seed(seed)).to(
            self.device
        )
        for index in range(self.num_batches or 0):
            rows = order[index * self.batch_size : (index + 1) * self.batch_size]
            if share[1] == 1:
                yield self.take(rows)
            elif len(rows) >= share[1]:
                ours = rows.tensor_split(share[1])[share[0]]
                yield self.take(ours)._replace(share=len(ours) * share[1] / len(rows))

    def first(self) -> Batch:
        """As many rows as a full batch has."""
        return next(self.in_order())

    def in_order(self) -> Iterator[Batch]:
        """All data in the order in which they lie."""
        if self.batch_size == self.num_data:
            yield Batch(self.form, self.arrays, None)
            return
        for rows in torch.arange(self.num_data, device=self.device).split(self.batch_size):
            yield self.take(rows)

    def take(self, rows: Tensor) -> Batch:
        """The batch of these rows."""
        return Batch(
            self.form,
            tuple(None if array is None else array.index_select(0, rows) for array in self.arrays),
            rows,
        )


class Stream:
    """Batches from an iterable, or from a callable that returns one, run through once per epoch.

    Raises: ValueError for an epoch without batches and for an iterator where there are several
        epochs, TypeError for what cannot be iterated.
    """

    num_data: int | None = None

    def __init__(self, data: Any, num_epochs: int = 1, *, device: torch.device) -> None:
        if not callable(data) and not hasattr(data, "__iter__"):
            raise TypeError(
                "data must be an array, a tuple or a dict of arrays, or an iterable of "
                "batches, "
                f"got {type(data).__name__}."
            )
        self.data, self.device = data, device
        self.num_batches = _length(data)
        self._first: Batch | None = None
        self._peeked: Iterator[Batch] | None = None
        if not callable(data) and iter(data) is data:
            if num_epochs > 1:
                raise ValueError(
                    "The data are an iterator, which is used up after one epoch: pass a "
                    "list, a "
                    "loader, or a function that returns an iterator."
                )
            self._peeked = self._batches()

    def first(self) -> Batch:
        """The first batch, which the next epoch gives again."""
        if self._first is None:
            batches = self._peeked or self._batches()
            self._first = next(batches, None)
            if self._first is None:
                raise ValueError("The data are empty: the iterable gives no batches.")
            if self._peeked is not None:
                self._peeked = _chain(self._first, batches)
        return self._first

    def epoch(self, seed: int, share: tuple[int, int] = (0, 1)) -> Iterator[Batch]:
        """The batches of an epoch; every process gives its own, and the order is the iterable's."""
        batch = None
        for batch in self._peeked or self._batches():
            yield batch
        if batch is None:
            raise ValueError(
                "The data gave no batches in this epoch: the iterable is empty or used up."
            )

    def in_order(self) -> Iterator[Batch]:
        """The batches of an epoch."""
        return self.epoch(0)

    def _batches(self) -> Iterator[Batch]:
        for batch in self.data() if callable(self.data) else self.data:
            form, entries = Form.of(batch)
            yield Batch(
                form,
                tuple(
                    _as_tensor(entry, form.label(i), self.device) for i, entry in enumerate(entries)
                ),
                None,
            )


def _chain(first: Batch, others: Iterator[Batch]) -> Iterator[Batch]:
    yield first
    yield from others


def _as_tensor(entry: Any, label: str, device: torch.device) -> Tensor | None:
    """On the device; numpy's floating-point arrays in torch's default type."""
    if entry is None:
        return None
    if not isinstance(entry, Tensor):
        array = np.asarray(entry)
        if array.dtype.kind not in "biufc":
            raise ValueError(
                f"{label} must be an array of numbers with one row per datum, got "
                f"{type(entry).__name__} of type {array.dtype}."
            )
        entry = torch.tensor(
            array, dtype=torch.get_default_dtype() if array.dtype.kind == "f" else None
        )
    if entry.ndim == 0:
        raise ValueError(
            f"{label} must be an array of numbers with one row per datum, got a single number."
        )
    return entry.detach().to(device)


def _length(data: Any) -> int | None:
    try:
        return len(data)
    except TypeError:
        return None
