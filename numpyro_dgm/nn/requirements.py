"""What a model requires of the data that it is given, beyond their shapes: labels within their
range, say.

A requirement is checked at once where the data are at hand. `fit` collects those of all its data
before the first step, and asks no more while it trains.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import jax
import numpy as np
from jax import Array

from dgm_core.arguments import refuse

__all__ = ["check_required", "collected_requirements", "require"]

_collected: ContextVar[list[tuple[str, str, Array, Array]] | None] = ContextVar(
    "_collected", default=None
)


def require(name: str, wanted: str, values: Array, good: Array) -> None:
    """Ask of data that they are good, entry by entry; ValueError with the first entry that is not.

    Args:
        name: of the argument, and wanted, what it must be, as the sentence says it.
        values: what is looked at.
        good: of their shape.

    Example:
        >>> y = jnp.array([0, 3])
        >>> require("y", "labels from 0 to 2", y, y < 3)
        Traceback (most recent call last):
        ValueError: y must be labels from 0 to 2, got 3.
    """
    found = _collected.get()
    if found is not None:
        found.append((name, wanted, values, good))
    elif not isinstance(good, jax.core.Tracer):
        check_required(name, wanted, values, good)


def known_wrong(valid: Any) -> bool:
    """Whether some entries are known to be false. Inside compiled code that is known of numpy's
    arrays alone, of which `jnp.all` would make an operation of that code.

    Example:
        >>> known_wrong(np.array([True, False])), jax.jit(known_wrong)(jnp.array(False)).item()
        (True, False)
    """
    return not isinstance(valid, jax.core.Tracer) and not np.asarray(valid).all()


def check_required(name: str, wanted: str, values: Array, good: Array) -> None:
    """Raises ValueError unless all entries are good, of transformed code where they are known."""
    bad = ~np.asarray(good)  # known, also inside compiled code
    if bad.any():
        refuse(name, wanted, np.asarray(values)[bad][0].item())


@contextmanager
def collected_requirements() -> Iterator[list[tuple[str, str, Array, Array]]]:
    """Inside this block requirements are written down, not checked: (name, wanted,
    values, good).
    """
    found: list[tuple[str, str, Array, Array]] = []
    token = _collected.set(found)
    try:
        yield found
    finally:
        _collected.reset(token)
