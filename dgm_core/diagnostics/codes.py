"""How a codebook is used: which codes, and how evenly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dgm_core.arguments import check_count, refuse

__all__ = ["CodeMap", "CodeUse", "code_use"]


@dataclass(frozen=True)
class CodeUse:
    """How often each code was chosen.

    counts: (K,), of each code.

    Example:
        >>> CodeUse(np.array([2, 2, 0])).perplexity
        2.0
    """

    counts: np.ndarray

    @property
    def num_codes(self) -> int:
        """K."""
        return len(self.counts)

    @property
    def perplexity(self) -> float:
        """exp of the entropy of the code of a position, in [1, K]: as many codes, used evenly,
        would be as surprising.
        """
        share = self.counts[self.counts > 0] / self.counts.sum()
        return float(np.exp(-(share * np.log(share)).sum()))

    @property
    def dead(self) -> tuple[int, ...]:
        """The codes that were never chosen."""
        return tuple(np.flatnonzero(self.counts == 0).tolist())

    def __str__(self) -> str:
        """One line.

        Example:
            >>> print(CodeUse(np.array([2, 2, 0])))
            2 of 3 codes used, perplexity 2.0
        """
        used = self.num_codes - len(self.dead)
        return f"{used} of {self.num_codes} codes used, perplexity {self.perplexity:.1f}"


def code_use(indices: Any, num_codes: int) -> CodeUse:
    """How codes are used by data.

    Args:
        indices: of codes, of any shape, 0, ..., num_codes - 1.
        num_codes: K.

    Raises:
        ValueError: for no indices, and others than these.

    Example:
        >>> code_use([[0, 0], [1, 1]], 3)
        CodeUse(counts=array([2, 2, 0]))
    """
    num_codes = check_count("num_codes", num_codes)
    found = np.asarray(indices)
    whole = found.size and found.dtype.kind in "iu" and 0 <= found.min() <= found.max() < num_codes
    if not whole:
        refuse("indices", f"a non-empty array of integers 0, ..., {num_codes - 1}", indices)
    return CodeUse(np.bincount(found.ravel(), minlength=num_codes))


@dataclass(frozen=True)
class CodeMap:
    """The numbers of the codes of data.

    indices: (num_data, *positions), integers 0, ..., num_codes - 1;  num_codes: K.

    Example:
        >>> CodeMap(np.array([[0, 2], [2, 0]]), 4).use.dead
        (1, 3)
    """

    indices: np.ndarray
    num_codes: int

    @property
    def use(self) -> CodeUse:
        """How often each code was chosen, at all positions together."""
        return code_use(self.indices, self.num_codes)
