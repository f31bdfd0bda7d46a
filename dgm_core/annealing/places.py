"""Where the entries of a guide's draws stand, side by side for each datum."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple

__all__ = ["Places"]

Move = Callable[[Any, tuple[int, ...]], Any]  # an array with its axes in another order


class Entries(NamedTuple):
    """A site on the real line.

    start, width: its entries among those of a datum;  batch, event: its shape in a run on all data;
    kept: which of its batch dimensions are the data plates, in the order of their sizes.
    """

    start: int
    width: int
    batch: tuple[int, ...]
    event: tuple[int, ...]
    kept: tuple[int, ...]


class Places:
    """The entries of all draws, (chains, num_data, width) side by side, and back.

    Args:
        sizes: of the data plates; () where all entries are those of one datum, the whole.

    Attributes:
        width: the entries of a datum.

    Example:
        >>> import numpy as np
        >>> places = Places((3,))
        >>> places.add("z", (4, 3), (2,), (1,))
        >>> z = np.arange(24).reshape(1, 4, 3, 2)
        >>> flat = places.flat("z", z, np.transpose)
        >>> flat.shape, bool((places.site("z", flat, (3,), np.transpose) == z).all())
        ((1, 3, 8), True)
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        self.sizes = tuple(sizes)
        self.width = 0
        self._entries: dict[str, Entries] = {}

    @property
    def num_data(self) -> int:
        """How many data there are."""
        return prod(self.sizes)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the sites."""
        return tuple(self._entries)

    def depth(self, name: str) -> int:
        """The batch dimensions of a site."""
        return len(self._entries[name].batch)

    def add(
        self, name: str, batch: Sequence[int], event: Sequence[int], kept: Sequence[int]
    ) -> None:
        """One more site, with the dimensions of its batch that are the data plates."""
        batch, kept = tuple(batch), tuple(kept)
        width = prod(batch) // prod(batch[i] for i in kept) * prod(event)
        self._entries[name] = Entries(self.width, width, batch, tuple(event), kept)
        self.width += width

    def checked(self) -> Places:
        """These. Raises ValueError where there are none."""
        if not self.width:
            raise ValueError(
                "There is nothing to anneal: no latent site has a density. Without latents the "
                "log-density of the data is their log-likelihood."
            )
        return self

    def flat(self, name: str, values: Any, move: Move) -> Any:
        """(chains, *batch, *event) -> (chains, num_data, entries of the site)."""
        own = self._entries[name]
        batch = values.shape[1 : 1 + len(own.batch)]
        axes = [1 + i for i in (*own.kept, *self._others(own))]
        events = range(1 + len(batch), values.ndim)
        sizes = prod(batch[i] for i in own.kept)
        return move(values, (0, *axes, *events)).reshape(values.shape[0], sizes, -1)

    def site(self, name: str, flat: Any, sizes: Sequence[int], move: Move) -> Any:
        """(chains, num_data, width) -> (chains, *batch, *event) of one site, with the data plates
        of these sizes."""
        own, others = self._entries[name], self._others(self._entries[name])
        sizes = tuple(sizes) if own.kept else ()
        part = flat[..., own.start : own.start + own.width]
        shape = (*sizes, *(own.batch[i] for i in others), *own.event)
        order = (*own.kept, *others)
        axes = [1 + order.index(i) for i in range(len(own.batch))]
        events = range(1 + len(order), 1 + len(order) + len(own.event))
        return move(part.reshape(part.shape[0], *shape), (0, *axes, *events))

    def _others(self, own: Entries) -> tuple[int, ...]:
        return tuple(i for i in range(len(own.batch)) if i not in own.kept)
