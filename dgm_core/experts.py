"""Which experts a product is made of: subsets of the experts, and the weights of their mixture."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, combinations
from typing import Any

import numpy as np

from dgm_core.arguments import check_number, refuse

__all__ = ["all_subsets", "check_subsets", "check_weights", "membership"]

Subsets = tuple[tuple[int, ...], ...]


def all_subsets(num_experts: int, *, empty: bool = False) -> Subsets:
    """All subsets of the experts 0, ..., M - 1, the small ones first; the `empty` one where asked.

    Example:
        >>> all_subsets(3)
        ((0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2))
        >>> len(all_subsets(5, empty=True))
        32
    """
    sizes = range(0 if empty else 1, num_experts + 1)
    return tuple(chain.from_iterable(combinations(range(num_experts), size) for size in sizes))


def check_subsets(subsets: Any, num_experts: int) -> Subsets:
    """A list of subsets of the experts; ValueError for anything else, and for one that is there
    twice.

    Example:
        >>> check_subsets([[1, 0], [2]], 3)
        ((0, 1), (2,))
    """
    wanted = f"a list of tuples of different experts from 0 to {num_experts - 1}, each once"
    try:
        found = tuple(tuple(sorted(subset)) for subset in subsets)
    except TypeError:
        refuse("subsets", wanted, subsets)
    known = all(
        type(index) is int and 0 <= index < num_experts for subset in found for index in subset
    )
    once = all(len(set(subset)) == len(subset) for subset in found)
    if not (found and known and once and len(set(found)) == len(found)):
        refuse("subsets", wanted, subsets)
    return found


def membership(subsets: Subsets, num_experts: int) -> np.ndarray:
    """Whether subset s holds expert m: (subsets, experts).

    Example:
        >>> membership(((0,), (0, 1)), 2).astype(int)
        array([[1, 0],
               [1, 1]])
    """
    return np.array([[index in subset for index in range(num_experts)] for subset in subsets])


def check_weights(weights: Sequence[float] | None, number: int) -> tuple[float, ...]:
    """The weights of `number` components, which sum to one; equal ones of None.

    Example:
        >>> check_weights([3, 1], 2), check_weights(None, 2)
        ((0.75, 0.25), (0.5, 0.5))
    """
    if weights is None:
        return (1.0 / number,) * number
    if isinstance(weights, str) or not hasattr(weights, "__len__") or len(weights) != number:
        refuse("weights", f"{number} positive numbers, one for each component", weights)
    found = [float(check_number("weights", weight, above=0)) for weight in weights]
    return tuple(weight / sum(found) for weight in found)


def not_normal(conditional: Any, distribution: str) -> str:
    """What to say of an expert whose density cannot be multiplied."""
    return (
        "An expert must be a normal distribution with independent entries, such as DiagonalNormal, "
        f"whose product is known, got {conditional!r}, which gives {distribution}."
    )


def check_seen(seen: Any, num_experts: int, is_bool: bool) -> None:
    """ValueError unless `seen` says of each expert whether it is there: (*batch, M) booleans."""
    shape = tuple(getattr(seen, "shape", ()))
    if not is_bool or shape[-1:] != (num_experts,):
        refuse("seen", f"booleans of shape (*batch, {num_experts}), one for each expert", seen)
