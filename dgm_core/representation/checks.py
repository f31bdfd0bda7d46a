"""Codes, labels and factors as the metrics take them."""

from __future__ import annotations

from typing import Any

import numpy as np

from dgm_core.arguments import check_floats, refuse

__all__ = ["as_codes", "as_factors", "as_labels"]


def as_codes(codes: Any, name: str = "codes") -> np.ndarray:
    """Codes (num_data, dim) in double precision. Raises ValueError for other shapes and values
    that are not finite."""
    codes = check_floats(name, codes)
    if codes.ndim != 2 or codes.size == 0:
        raise ValueError(f"{name} must be (num_data, dim) and not empty, got shape {codes.shape}.")
    if bad := int((~np.isfinite(codes)).sum()):
        raise ValueError(f"{name} must be finite, got {bad} of {codes.size} values that are not.")
    return codes


def as_labels(name: str, labels: Any, num_data: int | None = None) -> np.ndarray:
    """Class numbers (num_data,), 0 or more, as integers. Raises ValueError for any others: numbers
    between two classes, NaN, and negative ones, with which libraries mark points of no class.

    Example:
        >>> as_labels("labels", [0.0, 2.0])
        array([0, 2])
    """
    numbers = check_floats(name, labels)
    if numbers.ndim != 1 or not len(numbers) or num_data not in (None, len(numbers)):
        wanted = "(num_data,)" if num_data is None else f"({num_data},), one per code"
        raise ValueError(f"{name} must be {wanted} and not empty, got shape {numbers.shape}.")
    with np.errstate(invalid="ignore"):
        bad = ~((numbers >= 0) & (numbers == np.floor(numbers)) & np.isfinite(numbers))
    if bad.any():
        refuse(name, "class numbers, integers of at least 0", numbers[bad][0].item())
    return numbers.astype(np.int64)


def as_factors(factors: Any, num_data: int) -> list[np.ndarray]:
    """The columns of factors (num_data, num_factors): class numbers where the array holds integers,
    else real numbers. Raises ValueError for other shapes, NaN, and a factor that does not vary."""
    numbers = as_codes(factors, "factors")
    if len(numbers) != num_data:
        raise ValueError(f"factors must be one row per code, got {len(numbers)} for {num_data}.")
    is_class = np.asarray(factors).dtype.kind in "biu"
    columns = list(numbers.T)
    for index, column in enumerate(columns):
        if np.ptp(column) == 0:
            raise ValueError(f"Factor {index} has one value only, which every code tells: drop it.")
        if is_class:
            columns[index] = as_labels(f"factors[:, {index}]", column)
    return columns
