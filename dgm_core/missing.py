"""NaN in data, where model and guide are called on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from traceback import walk_tb
from typing import Any

import numpy as np

__all__: list[str] = []  # for the package, not for users

_OURS = ("dgm_core", "pyro_dgm", "numpyro_dgm")


@contextmanager
def missing_named(
    arrays: Mapping[str, Any], as_numpy: Callable[[Any], np.ndarray] = np.asarray
) -> Iterator[None]:
    """A block in which an engine's refusal names the array that holds NaN, where one does.

    Args:
        arrays: what the programs are called with, by the words for it.
        as_numpy: how numpy gets one of these.

    Raises:
        ValueError: in place of the engine's; sentences of ours stay as they are.

    Example:
        >>> with missing_named({"data": np.array([[1.0], [np.nan]])}):
        ...     np.linalg.norm(np.zeros(2), 2, 5)
        Traceback (most recent call last):
        ValueError: data holds NaN in row 1, which model or guide cannot take: leave such rows \
out, or give the program a mask with numbers beneath it. (AxisError: axis 5 is out of bounds for \
array of dimension 1)
    """
    try:
        yield
    except ValueError as error:
        *_, (frame, _) = walk_tb(error.__traceback__)
        place = _place({label: as_numpy(array) for label, array in arrays.items()})
        if not place or frame.f_globals.get("__name__", "").split(".")[0] in _OURS:
            raise
        reason = (str(error).strip() or "no reason given").splitlines()[0]
        raise ValueError(
            f"{place}, which model or guide cannot take: leave such rows out, or give the program "
            f"a mask with numbers beneath it. ({type(error).__name__}: {reason})"
        ) from error


def _place(arrays: Mapping[str, np.ndarray]) -> str:
    """Which array holds NaN, and where; empty where none does."""
    for label, array in arrays.items():
        if np.issubdtype(array.dtype, np.floating) and np.isnan(array).any():
            row = f" in row {np.argwhere(np.isnan(array))[0, 0]}" if array.ndim else ""
            return f"{label} holds NaN{row}"
    return ""
