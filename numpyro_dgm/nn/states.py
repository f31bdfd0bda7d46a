"""What networks keep beside their parameters, and runs that repeat a step."""

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import equinox as eqx
import jax
from jax import Array

from dgm_core.steps import keeps_in_a_step

__all__: list[str] = []  # for the package, not for users

_repeated: ContextVar[bool] = ContextVar("repeated", default=False)


def is_repeated() -> bool:
    """Whether a guide runs once more in one step, at the values that it drew before: what moves
    with every batch stays as that run found it.
    """
    return _repeated.get()


@contextmanager
def repeated() -> Iterator[None]:
    """A block in which a guide runs once more in one step."""
    token = _repeated.set(True)
    try:
        yield
    finally:
        _repeated.reset(token)


_stepping: ContextVar[bool] = ContextVar("stepping", default=False)


@contextmanager
def stepping() -> Iterator[None]:
    """A block that is one step of a sequence, in which nothing may be kept."""
    token = _stepping.set(True)
    try:
        yield
    finally:
        _stepping.reset(token)


class Shelf:
    """Where a registered module finds what it keeps: one entry of a mutable site."""

    def __init__(self, site: dict[str, Any], name: str) -> None:
        self.site, self.name = site, name


class Stateful(eqx.Module):
    """A module that keeps arrays which no optimizer trains, in the mutable site of the network that
    it is registered with.
    """

    running: Shelf | None  # set by `register`

    @abstractmethod
    def initial_state(self) -> dict[str, Array]:
        """What it keeps, before the first step; empty for one that keeps nothing."""

    @property
    def state(self) -> dict[str, Array]:
        """What it keeps, as it is."""
        return self.running.site[self.running.name] if self.running else self.initial_state()

    def keep(self, state: dict[str, Array]) -> None:
        """Replaces what it keeps, without gradient; nothing where it is not registered.

        Raises:
            ValueError: in a step of a sequence.
        """
        if _stepping.get():
            raise keeps_in_a_step(self)
        if self.running:
            self.running.site[self.running.name] = jax.lax.stop_gradient(state)
