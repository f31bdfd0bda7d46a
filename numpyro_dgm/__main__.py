"""The command line, run as a module: `fit`, `evaluate`, `sample`, `compare`, `report`, `list`."""

import itertools
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax

from dgm_core import cli

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line with this backend; returns the exit status."""
    backend = cli.Backend(
        name="numpyro_dgm",
        libraries=("jax", "numpyro", "equinox", "optax"),
        package=sys.modules["numpyro_dgm"],
        maker=_maker,
    )
    return cli.main(backend, argv)


def _maker(seed: int) -> Callable[..., Any]:
    """Builds modules, each with random weights of its own; the global random state
    stays as it was.
    """
    root, count = jax.random.key(seed), itertools.count()

    def make(cls: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return cls(*args, **kwargs, key=jax.random.fold_in(root, next(count)))

    return make


if __name__ == "__main__":
    sys.exit(main())
