"""Which position of a sequence attends to which: patterns of masked attention in raster order."""

from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from dgm_core.arguments import check_count, check_flag, check_shape, check_sizes, refuse

__all__ = [
    "Pattern",
    "block_attention",
    "causal_attention",
    "composed",
    "full_attention",
    "local_attention",
    "strided_attention",
    "summary_attention",
]


@dataclass(frozen=True)
class Pattern:
    """Which keys each query sees, mask[i, j]; made by the functions of this module.

    What is computed from it: groups of queries with the keys that any of them sees, for one pass
    over all positions, and the keys of one query, for one step.

    Args:
        kind: causal, strict, local, strided, blocks, summary or full.
        shape: (n,) positions, or (height, width) of an image in raster order.
        sizes: of the kind.

    Attributes:
        mask: (n, n), booleans.

    Example:
        >>> causal_attention(3).mask.astype(int).tolist()
        [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    """

    kind: str
    shape: tuple[int, ...]
    sizes: tuple[int, ...] = ()

    @property
    def num_positions(self) -> int:
        """The number of positions n."""
        return prod(self.shape)

    @property
    def dense(self) -> bool:
        """Whether every position, or every earlier one, is seen."""
        return self.kind in ("causal", "strict", "full")

    @cached_property
    def mask(self) -> np.ndarray:
        """mask[i, j]: query i sees key j."""
        i, j = np.indices((self.num_positions,) * 2, sparse=True)
        if self.kind == "full":
            return np.ones((self.num_positions,) * 2, bool)
        if self.kind == "strict":
            return i > j
        if self.kind == "local":
            return (i >= j) & (i - j <= self.sizes[0])
        if self.kind == "strided":
            return (i >= j) & ((i - j) % self.sizes[0] == 0)
        if self.kind == "summary":
            stride, count = self.sizes
            return (i >= j) & (j % stride >= stride - count)
        return (i >= j) & self._in_reach(i, j) if self.kind == "blocks" else i >= j

    def _in_reach(self, i: np.ndarray, j: np.ndarray) -> Any:
        """Whether key j is in the block of query i or in the memory around it."""
        near: Any = True
        axes = len(self.shape)
        for axis, (size, memory) in enumerate(zip(self.sizes[:axes], self.sizes[axes:])):
            at, key = (np.unravel_index(x, self.shape)[axis] for x in (i, j))
            start = at // size * size
            behind = memory if axes > 1 and axis == 1 else 0  # columns on both sides
            near = near & (key >= start - memory) & (key < start + size + behind)
        return near

    @cached_property
    def groups(self) -> np.ndarray:
        """The group of each query, (n,)."""
        i = np.arange(self.num_positions)
        if self.kind == "strided":
            return i % self.sizes[0]
        if self.kind in ("local", "summary"):
            return i // self.sizes[0]
        if self.kind == "blocks":
            at = np.unravel_index(i, self.shape)
            blocks = [x // size for x, size in zip(at, self.sizes)]
            counts = [-(-n // size) for n, size in zip(self.shape, self.sizes)]
            return np.ravel_multi_index(blocks, counts)
        return np.zeros_like(i)

    @cached_property
    def rows(self) -> np.ndarray:
        """The queries of each group, (groups, queries), short ones filled with their first."""
        numbers = range(self.groups.max() + 1)
        return _filled([np.flatnonzero(self.groups == group) for group in numbers])

    @cached_property
    def keys(self) -> np.ndarray:
        """The keys that some query of the group sees, (groups, keys), short ones filled."""
        return _filled([np.flatnonzero(self.mask[rows].any(0)) for rows in self.rows])

    @cached_property
    def allowed(self) -> np.ndarray:
        """Whether a query of a group sees a key of the group, (groups, queries, keys)."""
        seen = self.mask[self.rows[:, :, None], self.keys[:, None, :]]
        first = self.keys == self.keys[:, :1]
        first[:, 0] = False  # a key that fills is not seen again
        return seen & ~first[:, None, :]

    @cached_property
    def places(self) -> np.ndarray:
        """Where each query stands among those of all groups, (n,)."""
        places = np.empty(self.num_positions, int)
        flat = self.rows.reshape(-1)
        places[flat[::-1]] = np.arange(len(flat))[::-1]
        return places

    @cached_property
    def seen(self) -> np.ndarray:
        """The keys that each query sees, (n, most), short ones filled with -1."""
        return _filled([np.flatnonzero(row) for row in self.mask], -1)

    @cached_property
    def steps(self) -> list[Any]:
        """The keys that each query sees, as a slice where they are evenly spaced, None for none."""
        return [_as_slice(row[row >= 0].tolist()) for row in self.seen]

    def __repr__(self) -> str:
        sizes = "".join(f", {size}" for size in self.sizes)
        shape = self.shape if len(self.shape) > 1 else self.shape[0]
        return f"{self.kind}({shape}{sizes})"


def _as_slice(places: list[int]) -> Any:
    """Increasing places as a slice where they are evenly spaced, None for none."""
    step = places[1] - places[0] if len(places) > 1 else 1
    if places and places == list(range(places[0], places[-1] + 1, step)):
        return slice(places[0], places[-1] + 1, step)
    return places or None


def _filled(rows: list[np.ndarray], filler: int | None = None) -> np.ndarray:
    """Rows of different lengths as an array, filled with their first entry or with this one."""
    most = max(1, *(len(row) for row in rows))
    fillers = [(row[0] if len(row) else 0) if filler is None else filler for row in rows]
    return np.stack([np.r_[row, [x] * (most - len(row))] for row, x in zip(rows, fillers)]).astype(
        int
    )


def causal_attention(length: int, *, strict: bool = False) -> Pattern:
    """Query i sees all keys j <= i; strictly, j < i.

    Args:
        length: the number n of positions.
        strict: a query does not see itself; the first sees nothing.

    Raises:
        ValueError: for a length below 1.

    Example:
        >>> causal_attention(16).mask.sum(), causal_attention(16, strict=True).mask.sum()
        (np.int64(136), np.int64(120))
    """
    kind = "strict" if check_flag("strict", strict) else "causal"
    return Pattern(kind, (check_count("length", length),))


def full_attention(length: int) -> Pattern:
    """Query i sees all keys: for sets and images that are seen as a whole, in one pass only; also
    for a part of the positions.

    Args:
        length: the number n of positions, at most.

    Raises:
        ValueError: for a length below 1.

    Example:
        >>> full_attention(16).mask.sum()
        np.int64(256)
    """
    return Pattern("full", (check_count("length", length),))


def local_attention(length: int, span: int) -> Pattern:
    """Query i sees the keys i - span, ..., i: one head of Sparse Transformer's strided pattern.

    Args:
        length: the number n of positions.
        span: how far back, at least 1.

    Raises:
        ValueError: for a size below 1.

    References:
        Child et al. (2019), arXiv:1904.10509.

    Example:
        >>> local_attention(16, 4).mask.sum()
        np.int64(70)
    """
    return Pattern("local", (check_count("length", length),), (check_count("span", span),))


def strided_attention(length: int, stride: int) -> Pattern:
    """Query i sees the keys i, i - stride, i - 2 stride, ...: the other head of that pattern.

    Args:
        length: the number n of positions.
        stride: for images the width: the pixels above.

    Raises:
        ValueError: for a size below 1.

    References:
        Child et al. (2019), arXiv:1904.10509.

    Example:
        >>> strided_attention(16, 4).mask.sum()
        np.int64(40)
    """
    return Pattern("strided", (check_count("length", length),), (check_count("stride", stride),))


def summary_attention(length: int, stride: int, *, count: int = 1) -> Pattern:
    """Query i sees the last `count` keys of each block of `stride`, where they are not after it:
    with `block_attention(length, stride)` Sparse Transformer's fixed pattern.

    Args:
        length: the number n of positions.
        stride: the size of a block.
        count: c, at most stride.

    Raises:
        ValueError: for a size below 1, and for a count above the stride.

    References:
        Child et al. (2019), arXiv:1904.10509.

    Example:
        >>> summary_attention(16, 4).mask.sum(), block_attention(16, 4).mask.sum()
        (np.int64(28), np.int64(40))
    """
    length, stride = check_count("length", length), check_count("stride", stride)
    return Pattern("summary", (length,), (stride, check_count("count", count, 1, stride)))


def block_attention(
    length: int | tuple[int, int],
    block: int | tuple[int, int],
    *,
    memory: int | tuple[int, int] = 0,
) -> Pattern:
    """Queries in blocks: each sees the keys of its block and of the memory before the block that
    are not after it. Of an image, blocks are rectangles, whose memory is that many rows above them
    and that many columns on both sides: local attention of the Image Transformer.

    Args:
        length: the number n of positions, or (height, width) of an image in raster order.
        block: the size of a block, or (height, width).
        memory: positions before the block, or (rows, columns).

    Raises:
        ValueError: for a size below 1, a memory below 0, and where they have not as many entries.

    References:
        Parmar et al. (2018), arXiv:1802.05751.

    Example:
        >>> block_attention(16, 4, memory=2).mask.sum()
        np.int64(64)
    """
    shape = check_shape("length", length)
    blocks = block if isinstance(block, (list, tuple)) else (check_count("block", block),)
    sizes = check_sizes("block", blocks, least=1)
    wide = memory if isinstance(memory, (list, tuple)) else (memory,) * len(shape)
    wide = tuple(check_count("memory", size, 0) for size in wide)
    if len(shape) > 2:
        refuse("length", "a number of positions, or (height, width)", length)
    for name, found in (("block", sizes), ("memory", wide)):
        if len(found) != len(shape):
            refuse(name, f"of as many entries as length={shape}", found)
    return Pattern("blocks", shape, (*sizes, *wide))


def composed(*patterns: Pattern) -> np.ndarray:
    """Which position can reach which through layers with these patterns, the first layer first,
    when each layer adds to what it is given: (n, n) booleans.

    Args:
        patterns: one or more, over as many positions.

    Raises:
        ValueError: if the patterns differ in length.

    Example:
        >>> reach = composed(strided_attention(16, 4), local_attention(16, 4))
        >>> bool((reach == causal_attention(16).mask).all())
        True
    """
    lengths = {pattern.num_positions for pattern in patterns}
    if len(lengths) != 1:
        raise ValueError(f"composed needs patterns over one number of positions, got {patterns}.")
    reach = np.eye(lengths.pop())
    for pattern in patterns:
        reach = np.minimum(reach + pattern.mask.astype(float) @ reach, 1.0)
    return reach > 0


def check_patterns(patterns: Any) -> tuple[Pattern, ...]:
    """One or more patterns over as many positions.

    Example:
        >>> check_patterns([])
        Traceback (most recent call last):
        ValueError: patterns must be a sequence of patterns of attention over one length, got [].
    """
    found = tuple(patterns) if isinstance(patterns, (list, tuple)) else ()
    good = all(isinstance(pattern, Pattern) for pattern in found)
    if not found or not good or len({pattern.num_positions for pattern in found}) != 1:
        refuse("patterns", "a sequence of patterns of attention over one length", patterns)
    return found


def fits_length(pattern: Pattern, length: int) -> bool:
    """Whether a pattern can be applied to so many positions: all of them, or some where all see
    all.

    Example:
        >>> fits_length(full_attention(3), 2), fits_length(causal_attention(3), 2)
        (True, False)
    """
    most = pattern.num_positions
    return length == most or (pattern.kind == "full" and 0 < length < most)


def check_steps(pattern: Pattern) -> None:
    """Raise a ValueError for a pattern that cannot be run a position at a time.

    Example:
        >>> check_steps(full_attention(3))
        Traceback (most recent call last):
        ValueError: full(3) sees positions that come later: it runs in one pass, not in steps.
    """
    if pattern.kind == "full":
        raise ValueError(
            f"{pattern} sees positions that come later: it runs in one pass, not in steps."
        )


def seen_before(patterns: Any) -> np.ndarray:
    """Which steps j < i the output of step i depends on through layers with these patterns, where
    the input of step i is what came at step i - 1: (n, n) booleans.

    Example:
        >>> seen_before([causal_attention(3)]).astype(int).tolist()
        [[0, 0, 0], [1, 0, 0], [1, 1, 0]]
    """
    reach = composed(*patterns)
    return np.concatenate([reach[:, 1:], np.zeros((len(reach), 1), bool)], 1)
