"""The data of a run: arrays on the device, shuffled there, or any iterable of batches; and what can
be done to a batch.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dgm_core.training.batches import (
    Form,
    as_numbers,
    check_iterable,
    check_same_rows,
    is_packed,
    length_of,
    narrowed,
    num_rows,
    opened,
    split_rows,
)
from dgm_core.training.bucketed import Bucketed, Buckets, cut
from dgm_core.training.unpaired import Unpaired, mixed_orders, sizes_of

__all__ = ["binarize"]


def binarize(batch: Any) -> Any:
    """x ~ Bernoulli(x) anew at every pass: dynamic binarization, of the array, of the first array
    of a tuple or of the first entry of a dict.
    """
    form, (x, *others) = Form.of(batch)
    return form.build((torch.bernoulli(x), *others))


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
        form, arrays = Form.of(transform(self.form.build(self.arrays)))
        check_same_rows(self.size, arrays)
        return Batch(form, arrays, self.rows, self.share)

    @property
    def call(self) -> tuple[tuple, dict[str, Any]]:
        """The arguments of a call with it."""
        return self.form.call(self.arrays)

    def to(self, device: torch.device) -> "Batch":
        """The batch on another device."""
        arrays = (None if array is None else array.to(device) for array in self.arrays)
        rows = None if self.rows is None else self.rows.to(device)
        return self._replace(arrays=tuple(arrays), rows=rows)

    @property
    def device(self) -> torch.device:
        """Where it lies."""
        tensors = (array for array in self.arrays if isinstance(array, Tensor))
        return next((tensor.device for tensor in tensors), torch.get_default_device())

    @property
    def size(self) -> int:
        """How many data it holds."""
        return next((_rows_of(array) for array in self.arrays if array is not None), 1)


class Arrays:
    """Data in memory: an array, a tuple or a dict of arrays with equally many rows, put on the
    device once.

    Args:
        batch_size: None for all rows.
        drop_last: whether the last, smaller batch is left out.
        shrink: whether a batch may be larger than the data.
        name: of the argument.
        device: .

    Attributes:
        form: how they are put together.
        arrays: the data, row by row.
        num_data: how many data there are.
        sizes: the numbers of rows of data without pairs, of which num_data is the largest.
        buckets: of sequences by their lengths, None for all other data.
        batch_size: rows of a batch.
        num_full: full batches in an epoch.
        num_batches: with the last, smaller one.

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
        device: torch.device,
    ) -> None:
        self.form, entries = Form.of(data)
        arrays: tuple[Any, ...] = tuple(
            as_tensor(entry, self.form.label(i, name), device) for i, entry in enumerate(entries)
        )
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
        self.arrays, self.device = arrays, device

    def to(self, device: torch.device) -> None:
        """Move all data to another device."""
        self.arrays, self.device = Batch(self.form, self.arrays, None).to(device).arrays, device

    def epoch(self, seed: int, share: tuple[int, int] = (0, 1)) -> Iterator[Batch]:
        """The batches of an epoch in an order drawn from `seed`; of each the part `share` = (index,
        number of parts).
        """
        if self.batch_size == self.num_data and share[1] == 1:
            yield Batch(self.form, self.arrays, None)
            return
        order = self._order(seed).to(self.device)
        for index in range(self.num_batches or 0):
            rows = order[index * self.batch_size : (index + 1) * self.batch_size]
            if share[1] == 1:
                yield self.take(rows)
            elif len(rows) >= share[1]:
                ours = rows.tensor_split(share[1])[share[0]]
                yield self.take(ours)._replace(share=len(ours) * share[1] / len(rows))

    def _order(self, seed: int) -> Tensor:
        """The rows in an order drawn from `seed`; of data without pairs those of each array, side
        by side.
        """
        rng = np.random.default_rng(seed % 2**64)
        if self.sizes:
            return torch.as_tensor(mixed_orders(self.sizes, rng))
        if self.buckets is not None:
            return torch.as_tensor(self.buckets.order(self.batch_size, rng))
        return torch.randperm(
            self.num_data, generator=torch.Generator().manual_seed(seed), device="cpu"
        )

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
        """The batch of these rows (batch,), or (batch, arrays) of data without pairs; sequences in
        buckets are cut to the longest.
        """
        if self.sizes:
            columns = rows.unbind(1) if rows.ndim == 2 else (rows % size for size in self.sizes)
            taken = zip(self.arrays, columns)
            return Batch(self.form, tuple(a.index_select(0, own) for a, own in taken), rows)
        arrays = tuple(None if a is None else a.index_select(0, rows) for a in self.arrays)
        if self.buckets is not None:
            arrays = cut(arrays, self.buckets.steps(rows.cpu()))
        return Batch(self.form, arrays, rows)


class Stream:
    """Batches from an iterable, or from a callable that returns one, run through once per epoch.

    Raises:
        ValueError: for an epoch without batches and for an iterator where there are several epochs.
        TypeError: for what cannot be iterated.
    """

    num_data: int | None = None

    def __init__(
        self, data: Any, num_epochs: int = 1, *, name: str = "data", device: torch.device
    ) -> None:
        self.data, self.device, self.name = data, device, name
        once = check_iterable(data, num_epochs, name)
        self.num_batches = length_of(data)
        self._first: Batch | None = None
        self._peeked: Iterator[Batch] | None = self._batches() if once else None

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

    def to(self, device: torch.device) -> None:
        """Give the batches on another device."""
        self.device = device
        if self._first is not None:
            self._first = self._first.to(device)
        if self._first is not None and self._peeked is not None:
            next(self._peeked)  # the same, on the device before
            self._peeked = _chain(self._first, self._peeked)

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
        for batch in opened(self.data, self.name):
            form, entries = Form.of(batch)
            yield Batch(
                form,
                tuple(
                    as_tensor(entry, form.label(i, self.name), self.device)
                    for i, entry in enumerate(entries)
                ),
                None,
            )


def _chain(first: Batch, others: Iterator[Batch]) -> Iterator[Batch]:
    yield first
    yield from others


def as_tensor(entry: Any, label: str, device: torch.device) -> Any:
    """On the device; floating-point arrays of numpy, and half precision, in torch's default type;
    packed sequences as they are.
    """
    if entry is None:
        return None
    if is_packed(entry):
        return entry.to(device)
    if not isinstance(entry, Tensor):
        array = as_numbers(entry, label)
        if array.dtype.kind == "f":
            default = torch.empty(0, device="cpu").numpy().dtype
            array = narrowed(array, default, label)
        elif array.dtype.kind == "u" and array.dtype.itemsize > 1:
            array = narrowed(array, np.int64, label)
        entry = torch.tensor(array)
    if entry.ndim == 0:
        raise ValueError(
            f"{label} must be an array of numbers with one row per datum, got a single number."
        )
    if entry.dtype in (torch.float16, torch.bfloat16):
        entry = entry.to(torch.get_default_dtype())
    return entry.detach().to(device)


def _rows_of(array: Any) -> int:
    """The number of data in an array or a packed sequence."""
    return int(array.batch_sizes[0]) if is_packed(array) else len(array)
