"""What every training loop needs and no tensor library does: the progress line, early stopping, the description that a resumed run is recognised by."""

from __future__ import annotations

import functools
import hashlib
import inspect
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from tqdm.std import tqdm


class _Bar(tqdm):
    monitor_interval = 0  # no thread of its own


class Progress:
    """One line on stderr: epoch, steps per second and the newest value of every term.

    Args: num_steps, of the whole run (None: unknown); done, the steps done before; enabled, False shows nothing.
    Cost: below a microsecond a step; the line is redrawn ten times a second at most.

    >>> with Progress(10, enabled=False) as progress:
    ...     progress.advance(5)
    ...     progress.show("epoch 1 of 2", {"loss": 105.2, "ELBO": -105.2})
    """

    def __init__(self, num_steps: int | None = None, *, done: int = 0, enabled: bool = True) -> None:
        self.enabled = enabled
        self._bar = _Bar(total=num_steps, initial=done, disable=not enabled, unit="step", dynamic_ncols=True)

    def advance(self, num_steps: int = 1) -> None:
        """Count steps."""
        if self.enabled:
            self._bar.update(num_steps)

    def show(self, title: str, values: Mapping[str, float]) -> None:
        """Put a title and named values on the line; it appears with the next redraw."""
        if self.enabled:
            self._bar.set_description_str(title, refresh=False)
            self._bar.set_postfix_str(", ".join(f"{name} {value:.5g}" for name, value in values.items()), refresh=False)

    def close(self) -> None:
        """End the line."""
        self._bar.close()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class Patience:
    """Early stopping: remembers the best score (the smallest) and counts the epochs since.

    Args: limit, the number of epochs without a better score after which `exhausted` is true (None: never).
    Attributes: best, the best score (infinity before the first); best_epoch; waited.
    Raises: ValueError if limit is below 1.

    >>> patience = Patience(2)
    >>> [patience.better(score, epoch) for epoch, score in enumerate((3.0, 2.0, 2.5, float("nan")), start=1)]
    [True, True, False, False]
    >>> patience.exhausted, patience.best, patience.best_epoch
    (True, 2.0, 2)
    """

    def __init__(self, limit: int | None = None) -> None:
        if limit is not None and limit < 1:
            raise ValueError(f"patience must be at least 1, got {limit}.")
        self.limit = limit
        self.best = float("inf")
        self.best_epoch = 0
        self.waited = 0

    def better(self, score: float, epoch: int) -> bool:
        """Whether `score` is the best so far; NaN never is."""
        if score < self.best:
            self.best, self.best_epoch, self.waited = float(score), epoch, 0
            return True
        self.waited += 1
        return False

    @property
    def exhausted(self) -> bool:
        """Whether it is time to stop."""
        return self.limit is not None and self.waited >= self.limit

    def state(self) -> dict[str, Any]:
        """What a checkpoint needs."""
        return {"best": self.best, "best_epoch": self.best_epoch, "waited": self.waited}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        self.best, self.best_epoch, self.waited = float(state["best"]), int(state["best_epoch"]), int(state["waited"])


def describe(value: Any) -> Any:
    """A JSON-able description of an argument: equal for equal arguments, also in another process.

    Numbers, strings and None stay; dicts and sequences are described item by item; arrays (anything that numpy takes) become
    dtype, shape and the SHA-256 of their contents; functions their qualified name and a hash of their code; partials their parts; all else its `repr`,
    without memory addresses.

    >>> describe({"weights": np.zeros(3), "loss": len, "size": (2, None)})["size"]
    [2, None]
    >>> describe(np.zeros(3, np.float32))[:12], describe(functools.partial(int, base=2))
    ('float32 (3,)', {'partial': 'builtins.int', 'args': [], 'keywords': {'base': 2}})
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {str(key): describe(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [describe(item) for item in value]
    if isinstance(value, functools.partial):
        return {"partial": describe(value.func), "args": describe(value.args), "keywords": describe(value.keywords)}
    if inspect.isclass(value) or inspect.isroutine(value):
        name = f"{value.__module__}.{value.__qualname__}"
        code = getattr(value, "__code__", None)
        return name if code is None else f"{name} {hashlib.sha256(code.co_code + repr(_constants(code)).encode()).hexdigest()[:16]}"
    if hasattr(value, "__array__"):
        array = np.ascontiguousarray(value)
        return f"{array.dtype} {array.shape} {hashlib.sha256(array.tobytes()).hexdigest()[:16]}"
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))


def _constants(code: Any) -> list[Any]:
    return [[*_constants(item), item.co_code] if hasattr(item, "co_code") else item for item in code.co_consts]


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The names whose descriptions differ, sorted.

    >>> difference({"seed": 0, "batch_size": 10}, {"seed": 1, "batch_size": 10, "drop_last": False})
    ['drop_last', 'seed']
    """
    absent = object()
    return sorted(name for name in before.keys() | now.keys() if before.get(name, absent) != now.get(name, absent))
