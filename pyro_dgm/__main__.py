"""The command line, run as a module: `fit`, `evaluate`, `sample`, `compare`, `report`, `list`."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from dgm_core import cli

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line with this backend; returns the exit status."""
    backend = cli.Backend(
        name="pyro_dgm",
        libraries=("torch", "pyro-ppl"),
        package=sys.modules["pyro_dgm"],
        maker=_maker,
    )
    return cli.main(backend, argv)


def _maker(seed: int) -> Callable[..., Any]:
    """Builds modules, each with random weights of its own; the global random state
    stays as it was.
    """
    rng = np.random.default_rng(seed)

    def make(cls: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(rng.integers(2**63)))
            return cls(*args, **kwargs)

    return make


if __name__ == "__main__":
    sys.exit(main())
