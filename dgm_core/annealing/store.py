"""What annealing has found so far, in a file that a killed run goes on from."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from dgm_core.training import checkpoint
from dgm_core.training.checkpoint import CheckpointError
from dgm_core.training.identity import describe, difference
from dgm_core.training.resuming import held

SECONDS = 10.0  # between two files
_SHOWN = 3


class Store:
    """Arrays by name, kept in `<folder>/annealing.npz`; without a folder in memory alone.

    Args:
        folder: None: nothing is written.
        identity: what the numbers depend on.

    Raises:
        CheckpointError: for a file of another identity, or one that cannot be read.
    """

    def __init__(self, folder: Path | None, identity: Mapping[str, Any]) -> None:
        self._path = None if folder is None else folder / "annealing.npz"
        self._identity = describe(dict(identity))
        self._found: dict[str, dict[str, Any]] = {}
        self._saved = time.monotonic()
        if self._path is not None and checkpoint.exists(self._path):
            self._read(self._path)

    def take(self, name: str) -> dict[str, Any] | None:
        """The arrays of a name; None where there are none."""
        return self._found.get(name)

    def put(self, name: str, arrays: Mapping[str, Any], *, now: bool = False) -> None:
        """Keep arrays, and write the file where the last one is old, or `now`."""
        self._found[name] = {key: np.asarray(value) for key, value in arrays.items()}
        self._write(now)

    def drop(self, prefix: str) -> None:
        """Forget all names that start so; the next file is without them."""
        self._found = {n: x for n, x in self._found.items() if not n.startswith(prefix)}

    def _write(self, now: bool) -> None:
        if self._path is None or not (now or time.monotonic() - self._saved >= SECONDS):
            return
        arrays = {f"{n}|{key}": x for n, own in self._found.items() for key, x in own.items()}
        checkpoint.save(self._path, arrays, {"identity": self._identity})
        self._saved = time.monotonic()

    def _read(self, path: Path) -> None:
        arrays, header = checkpoint.load(path)
        if changed := difference(header.get("identity", {}), self._identity):
            more = f"; and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
            raise CheckpointError(
                f"{path} belongs to annealing with other arguments: "
                f"{'; '.join(changed[:_SHOWN])}{more}. Call it with the same ones, or choose "
                "another folder."
            )
        for name, array in arrays.items():
            first, key = name.rsplit("|", 1)
            self._found.setdefault(first, {})[key] = array


@contextmanager
def store_in(folder: Path | None, identity: Mapping[str, Any]) -> Iterator[Store]:
    """A store, and no other run in its folder meanwhile."""
    with held(folder):
        yield Store(folder, identity)
