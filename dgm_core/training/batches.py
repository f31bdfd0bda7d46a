"""The forms that data come in, and what both backends do with them before they become tensors.

Data in memory are an array, a tuple or a dict of arrays, or the empty tuple for a model without
arguments; all else is an iterable of such batches.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dgm_core.arguments import check_count, shown

__all__ = [
    "Form",
    "as_numbers",
    "check_accepts",
    "check_iterable",
    "check_same_form",
    "check_same_rows",
    "is_in_memory",
    "is_packed",
    "length_of",
    "narrowed",
    "num_rows",
    "opened",
    "split_rows",
]


class Form(NamedTuple):
    """How a batch is put together, kept apart from its arrays.

    Example:
        >>> form, arrays = Form.of({"x": 1, "a": 2})
        >>> arrays, form.build((3, 4))
        ((1, 2), {'x': 3, 'a': 4})
    """

    kind: str
    names: tuple[str, ...] = ()

    @classmethod
    def of(cls, batch: Any) -> tuple[Form, tuple]:
        """The form of a batch and its arrays in order; ValueError for a dict whose keys cannot be
        names of arguments.
        """
        if isinstance(batch, Mapping):
            if wrong := [key for key in batch if not isinstance(key, str)]:
                raise ValueError(
                    "The keys of a dict of data are the names of the model's arguments, got "
                    f"{wrong[0]!r}: "
                    "pass a tuple for arguments that are told apart by their place."
                )
            return cls("dict", tuple(batch)), tuple(batch.values())
        is_tuple = isinstance(batch, (tuple, list)) and not is_packed(batch)
        return (cls("tuple"), tuple(batch)) if is_tuple else (cls("array"), (batch,))

    def build(self, arrays: tuple) -> Any:
        """A batch of this form."""
        if self.kind == "dict":
            return dict(zip(self.names, arrays, strict=True))
        return tuple(arrays) if self.kind == "tuple" else arrays[0]

    def call(self, arrays: tuple) -> tuple[tuple, dict[str, Any]]:
        """The arguments (args, kwargs) with which model and guide are called."""
        return ((), self.build(arrays)) if self.kind == "dict" else (tuple(arrays), {})

    def label(self, index: int, name: str = "data") -> str:
        """How a sentence names an array."""
        keys = {"dict": repr(self.names[index]) if self.names else "", "tuple": str(index)}
        return f"{name}[{keys[self.kind]}]" if self.kind in keys else name

    def labeled(self, entries: Sequence[Any], name: str = "data") -> dict[str, Any]:
        """The arrays by how a sentence names them."""
        return {self.label(index, name): entry for index, entry in enumerate(entries)}

    def __str__(self) -> str:
        """In words."""
        words = {"dict": f"a dict with the keys {list(self.names)}", "tuple": "a tuple of arrays"}
        return words.get(self.kind, "one array")


def is_packed(batch: Any) -> bool:
    """Whether a tuple is one object, such as torch's PackedSequence, rather than a
    tuple of arrays.
    """
    return hasattr(batch, "_fields") and hasattr(batch, "to")


def is_in_memory(data: Any) -> bool:
    """Whether data are an array, a tuple or a dict of arrays; everything else is an iterable of
    batches.

    Example:
        >>> is_in_memory(np.zeros(3)), is_in_memory({"x": np.zeros(3)}), is_in_memory([np.zeros(3)])
        (True, True, False)
    """
    is_array = hasattr(data, "__array__") and hasattr(data, "shape")
    return is_array or (isinstance(data, (tuple, Mapping)) and not is_packed(data))


def as_numbers(entry: Any, label: str) -> np.ndarray:
    """An entry of a batch as an array of numbers in the machine's byte order, one row per datum.

    Takes arrays of any stride, byte order and kind of number, lists, and tables of numbers; half
    precision becomes single. Raises ValueError for text, objects, a single number, and arrays with
    masked entries.

    Example:
        >>> as_numbers(np.arange(4, dtype=">i2")[::-1], "x").dtype
        dtype('int16')
    """
    if isinstance(entry, np.ma.MaskedArray) and np.ma.is_masked(entry):
        raise ValueError(
            f"{label} has {np.ma.count_masked(entry)} masked entries, and a model does not see "
            "their mask: fill them "
            "in and leave them out by a mask in the model, whose values are a further array."
        )
    array = _as_array(entry, label)
    is_number = array.dtype.kind in "biufc"
    if array.ndim == 0 or not is_number:
        what = "a single number" if is_number else shown(entry)
        kind = f" of type {array.dtype}" if array.ndim else ""
        raise ValueError(
            f"{label} must be an array of numbers with one row per datum, got {what}{kind}."
        )
    wider = {"float16": np.float32, "longdouble": np.float64, "clongdouble": np.complex128}
    name = array.dtype.newbyteorder("=").type.__name__
    return np.ascontiguousarray(array, wider.get(name, array.dtype.newbyteorder("=")))


def _as_array(entry: Any, label: str) -> np.ndarray:
    try:
        array = np.asarray(entry)
        if array.dtype == object and _holds_numbers(entry):
            return entry.to_numpy(dtype=float, na_value=np.nan)
        return array.astype(np.float32) if array.dtype.name == "bfloat16" else array
    except (ValueError, TypeError, RuntimeError) as error:
        reason = str(error).split("\n")[0].rstrip(".")
        raise ValueError(
            f"{label} must be an array of numbers with one row per datum, "
            f"got {type(entry).__name__} ({reason})."
        ) from error


def _holds_numbers(table: Any) -> bool:
    """Whether all columns of a table hold numbers, though of several kinds or with gaps."""
    if not hasattr(table, "to_numpy"):
        return False
    dtypes: Any = getattr(table, "dtypes", None)
    dtypes = dtypes if hasattr(dtypes, "__iter__") else [dtypes]
    return all(getattr(dtype, "kind", "O") in "biuf" for dtype in dtypes)


def narrowed(array: np.ndarray, dtype: Any, label: str) -> np.ndarray:
    """The array in the type that the backend calculates with; ValueError where a finite number does
    not fit into it.

    Example:
        >>> narrowed(np.array([3]), np.int32, "x")
        array([3], dtype=int32)
    """
    dtype = np.dtype(dtype)
    if dtype == array.dtype:
        return array
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        bad = (array < limits.min) | (array > limits.max)
        new = array.astype(dtype)
    else:
        with np.errstate(over="ignore"):
            new = array.astype(dtype)
        bad = np.isinf(new) & ~np.isinf(array)
    if bad.any():
        raise ValueError(
            f"{label} holds {array[bad][0]}, which {dtype} cannot: rescale it, or calculate in "
            "double precision."
        )
    return new


def num_rows(form: Form, arrays: Sequence[Any], name: str = "data") -> int:
    """The number of data in arrays in memory; one for a model without arguments.

    Raises ValueError for arrays without rows and for unequal numbers of rows.
    """
    lengths = {
        form.label(i, name): len(array) for i, array in enumerate(arrays) if array is not None
    }
    if not lengths and arrays:
        raise ValueError(
            f"The {name} hold no arrays: pass an array, a tuple or a dict of arrays, or () "
            "for a "
            "model without arguments."
        )
    if len(set(lengths.values())) > 1:
        raise ValueError(
            f"All arrays of the {name} must have equally many rows, got {lengths}; data "
            "sets without pairs are given as Unpaired(x, y)."
        )
    number = next(iter(lengths.values()), 1)
    if number == 0:
        raise ValueError(f"The {name} are empty: {', '.join(lengths)} has no rows.")
    return number


def check_iterable(data: Any, num_epochs: int, name: str = "data") -> bool:
    """Whether data that are no arrays are an iterator, which gives its batches once.

    Raises TypeError for what cannot be iterated, ValueError for an iterator and several epochs.
    """
    if isinstance(data, (str, bytes)) or not (callable(data) or hasattr(data, "__iter__")):
        raise TypeError(
            f"{name} must be an array, a tuple or a dict of arrays, or an iterable of batches, got "
            f"{shown(data)}."
        )
    once = not callable(data) and iter(data) is data
    if once and num_epochs > 1:
        raise ValueError(
            "The data are an iterator, which is used up after one epoch: pass a list, a loader, or "
            "a function that returns an iterator."
        )
    return once


def length_of(data: Any) -> int | None:
    """The number of batches of an iterable, None where it does not tell.

    Example:
        >>> length_of([1, 2]), length_of(iter([1, 2]))
        (2, None)
    """
    try:
        return len(data)
    except TypeError:
        return None


def opened(data: Any, name: str = "data") -> Iterable[Any]:
    """The batches of an epoch, from an iterable or from a function that returns one."""
    batches = data() if callable(data) else data
    if isinstance(batches, (str, bytes)) or not hasattr(batches, "__iter__"):
        raise TypeError(
            f"{name} must be a function that returns an iterable of batches, got one that returns "
            f"{shown(batches)}."
        )
    return batches


def split_rows(
    num_data: int, batch_size: int | None, drop_last: bool = False
) -> tuple[int, int, int]:
    """The size of a batch, the number of full batches of an epoch, and that of all: (size, full,
    all).

    Example:
        >>> split_rows(10, 4), split_rows(10, None), split_rows(10, 4, drop_last=True)
        ((4, 2, 3), (10, 1, 1), (4, 2, 2))
    """
    size = num_data if batch_size is None else check_count("batch_size", batch_size)
    if size > num_data:
        raise ValueError(
            f"batch_size must lie between 1 and the number of data {num_data}, got {batch_size}."
        )
    full, rest = divmod(num_data, size)
    return size, full, full + (rest > 0 and not drop_last)


def check_same_form(form: Form, arrays: Sequence[Any], given: Form, found: Sequence[Any]) -> None:
    """Raises ValueError where validation data have another form than the data."""
    same = form.kind == given.kind and set(form.names) == set(given.names)
    if not same or len(arrays) != len(found):
        count = {"tuple": f" ({len(arrays)})"}.get(form.kind, "")
        raise ValueError(
            f"validation must have the form of the data, {form}{count}, got "
            f"{given}{f' ({len(found)})' if given.kind == 'tuple' else ''}."
        )


def check_same_rows(before: int, transformed: Sequence[Any]) -> None:
    """Raises ValueError where a transform did not keep the rows of a batch, or gave something else
    than arrays.
    """
    lengths = [
        len(array) if getattr(array, "ndim", 0) else None
        for array in transformed
        if array is not None
    ]
    if not transformed or not lengths or None in lengths:
        what = ", ".join(shown(array) for array in transformed if not getattr(array, "ndim", 0))
        raise ValueError(f"transform must return a batch of arrays, got {what or 'nothing'}.")
    if set(lengths) != {before}:
        raise ValueError(
            f"transform must keep the rows of a batch, got {lengths[0]} rows from {before}: "
            "select data before they are passed to fit."
        )


def check_accepts(name: str, function: Callable, args: tuple, kwargs: Mapping[str, Any]) -> None:
    """Raises ValueError where a function does not take the arguments that the form of the data
    gives it.

    Example:
        >>> check_accepts("model", lambda x: None, (1,), {})
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return  # Python knows nothing of its arguments
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        call = ", ".join([*("..." for _ in args), *(f"{key}=..." for key in kwargs)])
        raise ValueError(
            f"{name} does not take the data as they are, called with {call or 'nothing'}: {error}."
        ) from None
