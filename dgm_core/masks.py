"""Which unit of a masked autoregressive network sees which: degrees, masks, and the steps in which such a network is solved."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise

import numpy as np

__all__ = ["Masking", "masking"]

_BLOCK = 16  # coordinates of a block of the solution, and the largest number of blocks: each is compiled by itself in JAX
_MAX_BLOCKS = 4


@dataclass(frozen=True)
class Masking:
    """Who sees whom in a MADE network.

    Coordinate order[t] has rank t.  A hidden unit of degree d sees the coordinates of rank below d and the hidden units of degree at most d; the parameters of
    rank t see the hidden units of degree at most t.  Degrees are sorted and spread evenly, so what is known after t steps is a prefix of each layer.

    Args: order, a permutation of the coordinates; hidden, the sizes of the hidden layers; num_params, of each coordinate; given, whether there is a context:
        then some hidden units have degree 0, which see the context only.
    Reference: Germain et al. (2015), arXiv:1502.03509.

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
    def ranks(self) -> np.ndarray:
        """The rank of each coordinate."""
        return np.argsort(self.order)

    @cached_property
    def outputs(self) -> np.ndarray:
        """The places of the parameters in the order of the ranks."""
        return (np.array(self.order)[:, None] * self.num_params + np.arange(self.num_params)).ravel()

    @cached_property
    def degrees(self) -> tuple[np.ndarray, ...]:
        """The degrees of the units of each hidden layer."""
        lowest = 0 if self.given or self.dim == 1 else 1
        count = self.dim - lowest
        spread = [np.arange(size) * count // size if size >= count else np.linspace(0, count - 1, size).round().astype(int) for size in self.hidden]
        return tuple(lowest + degrees for degrees in spread)

    @cached_property
    def masks(self) -> tuple[np.ndarray, ...]:
        """Whether row i of the weight of each layer sees column j; the coordinates in their own order, those of the outputs num_params times each."""
        columns = (self.ranks + 1, *self.degrees)
        rows = (*self.degrees, np.repeat(self.ranks, self.num_params))
        return tuple(row[:, None] >= column for row, column in zip(rows, columns))

    @cached_property
    def done(self) -> tuple[tuple[int, ...], ...]:
        """How many values of each layer (coordinates, hidden layers, parameters) are known before step t, for t = 0, ..., dim."""
        steps = np.arange(self.dim + 1)
        counts = [steps, *(np.searchsorted(degrees, steps) for degrees in self.degrees), steps * self.num_params]
        return tuple(tuple(count.tolist()) for count in counts)

    def blocks(self) -> Iterator[tuple[int, int]]:
        """The steps from t to t' that are solved together."""
        count = min(_MAX_BLOCKS, -(-self.dim // _BLOCK))
        return pairwise(self.dim * i // count for i in range(count + 1))


@lru_cache(maxsize=256)
def masking(order: tuple[int, ...], hidden: tuple[int, ...], num_params: int, given: bool) -> Masking:
    """The masking with these arguments; equal ones are the same object, whose masks are made once."""
    return Masking(order, hidden, num_params, given)
