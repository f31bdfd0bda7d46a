"""A run as one file, and what a run remembers of its data: what both backends decide alike."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dgm_core.results import History
from dgm_core.training import checkpoint
from dgm_core.training.checkpoint import CheckpointError

__all__ = [
    "CheckpointError",
    "called_with",
    "check_arrays",
    "check_terms_kept",
    "describe_call",
    "fingerprint",
    "read_run",
    "seen",
    "split_terms",
    "stand_ins",
    "unrunnable",
    "write_run",
]

_FORMAT = 1
_LOOKS = 64  # rows that a fingerprint looks at
_SHOWN = 3  # differences that an error names
_FIELDS = ("config", "data_size", "epoch", "best_epoch")


def seen(
    form: Any, batch: Sequence[Any], data: Sequence[Any] | None, num_data: int | None
) -> dict[str, Any]:
    """What a run remembers of its data, as JSON.

    Args:
        form: of a batch, with `kind` and `names`.
        batch: its arrays as the model sees them.
        data: all arrays, where they are in memory; num_data, how many data they are.
    """
    found: dict[str, Any] = {"call": describe_call(form.kind, form.names, batch)}
    if data is not None and num_data is not None:
        found["fingerprint"] = fingerprint(data, num_data)
    return found


def describe_call(kind: str, names: Sequence[str], arrays: Sequence[Any]) -> dict[str, Any]:
    """How model and guide were called, as JSON: form, names, types and shapes, but no value.

    Args:
        kind: "array", "tuple" or "dict".
        names: the keys of a dict.
        arrays: arrays of any library, None where there was none.

    Returns:
        {} for a call with anything else.

    Example:
        >>> describe_call("array", (), [np.zeros((3, 2), np.float32)])
        {'kind': 'array', 'names': [], 'arrays': [['float32', [3, 2]]]}
    """
    if not all(array is None or hasattr(array, "dtype") for array in arrays):
        return {}
    shapes = [None if a is None else [_dtype(a), [int(n) for n in a.shape]] for a in arrays]
    return {"kind": kind, "names": list(names), "arrays": shapes}


def stand_ins(call: Mapping[str, Any]) -> tuple[np.ndarray | None, ...]:
    """Arrays of the types and shapes of a call: 0.5 for real numbers, 0 for integers.

    Example:
        >>> stand_ins(describe_call("array", (), [np.zeros(2)]))
        (array([0.5, 0.5]),)
    """

    def array(name: str, shape: Sequence[int]) -> np.ndarray:
        dtype = np.dtype("float32" if name == "bfloat16" else name)
        return np.full(tuple(shape), 0.5 if dtype.kind in "fc" else 0, dtype)

    return tuple(None if entry is None else array(*entry) for entry in call["arrays"])


def fingerprint(arrays: Sequence[Any], num_data: int) -> str:
    """What tells one data set from another: a hash of 64 rows at most, evenly spaced.

    Neither the order of the arrays nor their precision counts, and where they lie.

    Args:
        arrays: of any library; only those with one row per datum count.
        num_data: the number of data.

    Example:
        >>> x = np.arange(6.0)
        >>> fingerprint([x], 6) == fingerprint([x.astype(np.float32)], 6) != fingerprint([x + 1], 6)
        True
    """
    rows = np.unique(np.linspace(0, num_data - 1, min(num_data, _LOOKS)).astype(int))

    def digest(array: Any) -> str:
        part = array[rows]
        part = np.asarray(part.float().cpu() if hasattr(part, "cpu") else part)
        part = part.astype(np.complex64 if part.dtype.kind == "c" else np.float32)
        return hashlib.sha256(f"{part.shape}".encode() + part.tobytes()).hexdigest()

    has_rows = [a for a in arrays if getattr(a, "ndim", 0) and len(a) == num_data]
    found = f"{num_data} {sorted(map(digest, has_rows))}"
    return hashlib.sha256(found.encode()).hexdigest()[:16]


def write_run(
    path: str | os.PathLike[str],
    backend: str,
    arrays: Mapping[str, Any],
    fields: Mapping[str, Any],
) -> None:
    """Write a run: its arrays and, of its fields, history, configuration and counts."""
    meta = {name: fields[name] for name in _FIELDS}
    history = list(fields["history"])
    checkpoint.save(path, arrays, {"run": _FORMAT, "backend": backend, "history": history, **meta})
    checkpoint.previous(path).unlink(missing_ok=True)  # a damaged run is not to become an older one


def read_run(
    path: str | os.PathLike[str], backend: str
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays of a run, and its fields by name.

    Raises:
        CheckpointError: no such file, a damaged one, or one of another kind or backend.
    """
    arrays, meta = checkpoint.load(path)
    if meta.pop("run", None) != _FORMAT:
        raise CheckpointError(
            f"{path} holds no run that this version can read: write one with run.save(path)."
        )
    if (writer := meta.pop("backend")) != backend:
        raise CheckpointError(f"{path} was written by {writer}: read it with {writer}.load_run.")
    return arrays, {**meta, "history": History(meta["history"])}


def called_with(
    path: str | os.PathLike[str], config: Mapping[str, Any]
) -> tuple[str, tuple[str, ...], tuple[np.ndarray | None, ...]]:
    """The form, the names and stand-ins for the arrays that model and guide were called with.

    Raises:
        CheckpointError: where that is not known.
    """
    call = config.get("seen", {}).get("call")
    if not call:
        raise CheckpointError(
            f"{path} does not say how model and guide are called: pass data=, a batch like those "
            "of the fit."
        )
    return call["kind"], tuple(call["names"]), stand_ins(call)


def unrunnable(path: str | os.PathLike[str], error: Exception) -> str:
    """What to say where model and guide cannot be called to find their parameters."""
    return (
        f"{path} is read by calling model and guide on numbers of the types and shapes of the "
        f"fit, but they fail ({type(error).__name__}: {error}): pass the model and guide of the "
        "fit, and data=, a batch like those of the fit, where arbitrary numbers do not do."
    )


def check_arrays(
    path: str | os.PathLike[str], saved: Mapping[str, Any], found: Mapping[str, Any]
) -> None:
    """Raises CheckpointError where model and guide have other arrays than a file.

    Args:
        path: the file.
        saved, found: name -> array, of the file and of model and guide.
    """

    def shape(arrays: Mapping[str, Any], name: str) -> str:
        return str(tuple(np.shape(arrays[name]))) if name in arrays else "absent"

    names = [*saved, *(name for name in found if name not in saved)]
    differ = [name for name in names if shape(saved, name) != shape(found, name)]
    if differ:
        shown = "; ".join(
            f"'{name}' is {shape(saved, name)} there and {shape(found, name)} here"
            for name in differ[:_SHOWN]
        )
        more = f"; {len(differ) - _SHOWN} more differ" if len(differ) > _SHOWN else ""
        raise CheckpointError(
            f"{path} holds a run of another model or guide ({shown}{more}): pass the model and "
            "guide that the run was fitted with."
        )


def split_terms(arrays: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arrays of a run, and those of what the terms of its loss keep.

    Example:
        >>> split_terms({"params/a": 1, "terms/b": 2})
        ({'params/a': 1}, {'terms/b': 2})
    """
    terms = {name: array for name, array in arrays.items() if name.startswith("terms/")}
    return {name: array for name, array in arrays.items() if name not in terms}, terms


def check_terms_kept(
    path: str | os.PathLike[str], saved: Mapping[str, str], found: Mapping[str, str]
) -> None:
    """Raises CheckpointError where the terms of a loss keep other things than a file holds: names
    with the shapes of what is there.
    """
    if differ := sorted(dict(saved.items() ^ found.items())):
        raise CheckpointError(
            f"{path} does not hold what the terms of this loss keep (they differ in {differ[0]!r}"
            f"{f' and {len(differ) - 1} more' if differ[1:] else ''}): pass the loss of the fit."
        )


def _dtype(array: Any) -> str:
    return str(array.dtype).removeprefix("torch.")
