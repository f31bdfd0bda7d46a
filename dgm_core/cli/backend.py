"""What the command line needs of a backend."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Backend:
    """A backend, put together in its `__main__`. Both have the same names, so the rest is shared.

    Args:
        name: "pyro_dgm" or "numpyro_dgm".
        libraries: the distributions whose versions `config.json` records.
        package: with the modules `models`, `conditionals`, `flows`, `losses`, `training` and
            `evaluation`.
        maker: seed -> make, where make(cls, *args, **kwargs) builds a module with its own random
            weights and leaves the user's random state alone.
    """

    name: str
    libraries: Sequence[str]
    package: Any
    maker: Callable[[int], Callable[..., Any]]

    def conditional(self, name: str) -> Callable[..., Any]:
        """The class of a prior, posterior or likelihood."""
        conditionals, flows = self.package.conditionals, self.package.flows
        return getattr(conditionals, name, None) or getattr(flows, name)
