"""Data in groups of unequal size: an array of groups and a mask of their members."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dgm_core.arguments import check_count, check_seed, refuse, shown

__all__ = ["grouped", "per_member"]


def grouped(
    x: Any, labels: Any, size: int, *, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Data split at random into groups of one label each, of `size` members; the last group of a
    label may have fewer.

    Args:
        x: (num_data, *shape).
        labels: (num_data,).
        size: of a group, at most.
        seed: of the split.

    Returns:
        The groups (num_groups, size, *shape), zeros where there is no member; has (num_groups,
        size), where there is one; the labels of the groups (num_groups,).

    Raises:
        ValueError: for arrays of different numbers of data, and a size below 1.

    Example:
        >>> groups, has, labels = grouped(np.arange(5.0)[:, None], [0, 1, 0, 0, 1], 2)
        >>> groups.shape, has.sum(1), labels
        ((3, 2, 1), array([2, 1, 2]), array([0, 0, 1]))
    """
    x, labels, size = np.asarray(x), np.asarray(labels), check_count("size", size)
    if labels.ndim != 1 or len(x) != len(labels) or not len(x):
        refuse("labels", f"one for each of the {len(x)} data", labels)
    rng, groups, of = np.random.default_rng(check_seed("seed", seed)), [], []
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        parts = np.split(rows, range(size, len(rows), size))
        groups += parts
        of += [label] * len(parts)
    found = np.zeros((len(groups), size, *x.shape[1:]), x.dtype)
    has = np.zeros((len(groups), size), bool)
    for index, rows in enumerate(groups):
        found[index, : len(rows)], has[index, : len(rows)] = x[rows], True
    return found, has, np.array(of)


def per_member(values: Any, has: Any) -> float:
    """Nats per member from nats of groups: their sum, divided by the number of members.

    A data plate of groups counts groups, and the quantities of a loss are nats per group, of
    however many members each.

    Args:
        values: of the groups (num_groups,), as a bound or `log_likelihood` gives them.
        has: the mask of their members (num_groups, size).

    Raises:
        ValueError: for other shapes, and without a member.

    Example:
        >>> per_member([-4.0, -2.0], [[True, True], [True, False]])
        -2.0
    """
    values, has = np.asarray(values, float), np.asarray(has)
    if values.ndim != 1 or has.shape[:1] != values.shape or has.ndim != 2 or has.dtype != bool:
        refuse(
            "has", f"booleans ({shown(len(values))}, members) beside a value for each group", has
        )
    if not has.any():
        raise ValueError("There is no member in any group, so nothing to divide by.")
    return float(values.sum() / has.sum())


def check_groups(
    x: Any, has: Any, shape: tuple[int, ...], size: int, members: int
) -> tuple[int, int]:
    """How many groups and members there are: those of the data, or as many as are asked for.

    Raises:
        ValueError: for data of another shape, and a mask that does not fit.
    """
    if x is None:
        if has is not None:
            refuse("has", "left out where there are no data", has)
        return check_count("size", size), check_count("members", members)
    found = tuple(getattr(x, "shape", ()))
    if len(found) != 2 + len(shape) or found[2:] != shape:
        raise ValueError(
            f"x must have shape (groups, members, {', '.join(map(str, shape))}), got "
            f"{found if hasattr(x, 'shape') else shown(x)}."
        )
    is_bool = str(getattr(has, "dtype", "")).rsplit(".", 1)[-1] == "bool"
    if has is not None and not (is_bool and tuple(has.shape) == found[:2]):
        refuse("has", f"booleans of shape {found[:2]}, true where there is a member", has)
    return found[0], found[1]


def check_swapped(sites: Any, local: Sequence[str], sizes: Sequence[int]) -> list[str]:
    """The local latents that change places, of all but those named.

    Raises:
        ValueError: for names that are none of them, where none is left, and for data in more plates
            than one.
    """
    names = (sites,) if isinstance(sites, str) else tuple(sites)
    if len(sizes) != 1:
        raise ValueError(f"Latents change places within one data plate, got plates of {sizes}.")
    if unknown := [name for name in names if name not in local]:
        raise ValueError(f"sites names {unknown}, but the local latents are {list(local)}.")
    left = [name for name in local if name not in names]
    if not left or not names:
        raise ValueError(
            f"Some of the local latents {list(local)} must stay and others change places, got "
            f"sites={sites!r}."
        )
    return left
