"""What a model requires of the data that it is given, beyond their shapes: labels within their
range, say.

A requirement is checked at once where the data are at hand. `fit` collects those of all its data
before the first step, and asks no more while it trains.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

from dgm_core.arguments import refuse
from pyro_dgm.compat import numbers_of
from pyro_dgm.nn.register import settled

__all__ = ["check_required", "collected_requirements", "require"]

_collected: ContextVar[list[tuple[str, str, Tensor, Tensor]] | None] = ContextVar(
    "_collected", default=None
)


def require(name: str, wanted: str, values: Tensor, good: Tensor) -> None:
    """Ask of data that they are good, entry by entry; ValueError with the first entry that is not.

    Args:
        name: of the argument, and wanted, what it must be, as the sentence says it.
        values: what is looked at.
        good: of their shape.

    Example:
        >>> y = torch.tensor([0, 3])
        >>> require("y", "labels from 0 to 2", y, y < 3)
        Traceback (most recent call last):
        ValueError: y must be labels from 0 to 2, got 3.
    """
    found = _collected.get()
    if found is not None:
        found.append((name, wanted, values, good))
    elif not (
        settled.get()
        or good.is_meta
        or torch.compiler.is_compiling()
        or torch.compiler.is_exporting()
    ):
        check_required(name, wanted, values, good)


def check_required(name: str, wanted: str, values: Tensor, good: Tensor) -> None:
    """Raises ValueError unless all entries are good, of transformed code where they are known."""
    if not numbers_of(good).all():
        bad = numbers_of(torch.where(good, False, True))
        found = numbers_of(torch.where(good, torch.zeros_like(values), values))  # laid out as bad
        refuse(name, wanted, found[bad][0].item())


@contextmanager
def collected_requirements() -> Iterator[list[tuple[str, str, Tensor, Tensor]]]:
    """Inside this block requirements are written down, not checked: (name, wanted,
    values, good).
    """
    found: list[tuple[str, str, Tensor, Tensor]] = []
    token = _collected.set(found)
    try:
        yield found
    finally:
        _collected.reset(token)
