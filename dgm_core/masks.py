"""Which unit of a masked autoregressive network sees which: degrees, masks, and the steps in which
such a network is solved.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Any

import numpy as np

from dgm_core.arguments import check_count, check_permutation, check_sizes

__all__ = ["Block", "Masking", "check_autoregressive", "masking"]

# coordinates of a block of the solution, and the largest number of blocks: each is compiled by
# itself in JAX
_BLOCK = 12
_MAX_BLOCKS = 5


@dataclass(frozen=True)
class Masking:
    """Who sees whom in a MADE network.

    Coordinate order[t] has rank t.  A hidden unit of degree d sees the coordinates of rank below d
    and the hidden units of degree at most d; the parameters of rank t see the hidden units of
    degree at most t.  Degrees are sorted and spread evenly, so what is known after t steps is a
    prefix of each layer.

    Args:
        order: a permutation of the coordinates.
        hidden: the sizes of the hidden layers.
        num_params: of each coordinate.
        given: whether there is a context: then some hidden units have degree 0, which see the
            context only.

    References:
        Germain et al. (2015), arXiv:1502.03509.

    Example:
        >>> Masking((0, 1, 2), (4,), 1, False).degrees[0]
        array([1, 1, 2, 2])
    """

    order: tuple[int, ...]
    hidden: tuple[int, ...]
    num_params: int
    given: bool

    @property
    def dim(self) -> int:
        """The number of coordinates."""
        return len(self.order)

    @cached_property
    def degrees(self) -> tuple[np.ndarray, ...]:
        """The degrees of the units of each hidden layer."""
        lowest = 0 if self.given or self.dim == 1 else 1
        count = self.dim - lowest
        spread = [
            np.arange(size) * count // size
            if size >= count
            else np.linspace(0, count - 1, size).round().astype(int)
            for size in self.hidden
        ]
        return tuple(lowest + degrees for degrees in spread)

    @cached_property
    def masks(self) -> tuple[np.ndarray, ...]:
        """Whether row i of the weight of each layer sees column j; the coordinates in their own
        order, those of the outputs num_params times each.
        """
        ranks = np.argsort(self.order)
        columns = (ranks + 1, *self.degrees)
        rows = (*self.degrees, np.repeat(ranks, self.num_params))
        return tuple(row[:, None] >= column for row, column in zip(rows, columns))

    @cached_property
    def blocks(self) -> tuple["Block", ...]:
        """The solution v_order[0], v_order[1], ... in steps, several to a block."""
        count = min(_MAX_BLOCKS, -(-self.dim // _BLOCK))
        return tuple(
            Block(self, *steps)
            for steps in pairwise(self.dim * i // count for i in range(count + 1))
        )


class Block:
    """Some successive steps of the solution of a masked network: step t makes known the hidden
    units of degree t, the parameters of rank t, and coordinate order[t].

    Attributes, lists over the layers (coordinates, hidden layers, parameters): rows, the values
    that become known in the block, one step after the other; offsets, how many of them are known
    before step t of the block, t = 0, ..., size; before and after, slices with the values known
    before the block and those known only after it: of coordinates and parameters, which stand in
    their own order, all, so that others must be zero.

    Args:
        masking: what sees what.
        start, stop: the steps.
    """

    def __init__(self, masking: Masking, start: int, stop: int) -> None:
        order, size = np.array(masking.order[start:stop], np.int32), masking.num_params
        self.size = stop - start
        done = [np.searchsorted(degrees, np.arange(start, stop + 1)) for degrees in masking.degrees]
        outputs = (order[:, None] * size + np.arange(size, dtype=np.int32)).ravel()
        self.rows: list[slice | np.ndarray] = [
            _slice(order),
            *(slice(int(counts[0]), int(counts[-1])) for counts in done),
            _slice(outputs),
        ]
        self.before = [slice(None), *(slice(int(counts[0])) for counts in done), slice(None)]
        self.after = [slice(None), *(slice(int(counts[-1]), None) for counts in done), slice(None)]
        steps = np.arange(self.size + 1)
        self.offsets: list[list[int]] = [
            counts.tolist()
            for counts in (steps, *(counts - counts[0] for counts in done), steps * size)
        ]


def _slice(indices: np.ndarray) -> slice | np.ndarray:
    """Successive indices as a slice, which spares a copy of what it is taken from."""
    first = int(indices[0])
    return (
        slice(first, first + len(indices))
        if (indices == np.arange(first, first + len(indices))).all()
        else indices
    )


@lru_cache(maxsize=256)
def masking(
    order: tuple[int, ...], hidden: tuple[int, ...], num_params: int, given: bool
) -> Masking:
    """The masking with these arguments; equal ones are the same object, whose masks are
    made once.
    """
    return Masking(order, hidden, num_params, given)


def check_autoregressive(
    dim: Any, hidden: Any, order: Any, *, least: int = 0
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The sizes of the hidden layers and the order of the coordinates of an autoregressive network,
    if they are such (order None: 0, ..., dim - 1), with `least` hidden layers or more.

    Example:
        >>> check_autoregressive(3, [8], None)
        ((8,), (0, 1, 2))
    """
    dim, hidden = check_count("dim", dim), check_sizes("hidden", hidden, least=least)
    return hidden, check_permutation("order", range(dim) if order is None else order, dim)
