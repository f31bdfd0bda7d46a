"""The progress line of a training loop."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from tqdm.std import tqdm


class _Bar(tqdm):
    """A bar without a bar: its text is made when it is drawn."""

    monitor_interval = 0  # no thread of its own
    text: Callable[[dict[str, Any]], str] = staticmethod(lambda state: "")

    def __str__(self) -> str:
        return self.text(self.format_dict)


class Progress:
    """One line on stderr: epoch, loss, validation and best epoch, steps, and terms as space allows.

    Args:
        num_steps: of the whole run (None: unknown).
        done: the steps done before.
        enabled: False shows nothing. Cost: below a microsecond a step; the line is redrawn ten
            times a second at most.

    Example:
        >>> with Progress(10, enabled=False) as progress:
        ...     progress.advance(5)
        ...     progress.show("epoch 1 of 2", {"loss": 105.2, "ELBO": -105.2})
    """

    def __init__(
        self, num_steps: int | None = None, *, done: int = 0, enabled: bool = True
    ) -> None:
        self.enabled, self.title = enabled, ""
        self._values: dict[str, float] = {}
        self._bar = _Bar(total=num_steps, initial=done, disable=not enabled, nrows=20)
        self._bar.text = self._text

    def advance(self, num_steps: int = 1) -> None:
        """Count steps."""
        if self.enabled:
            self._bar.update(num_steps)

    def show(self, title: str, values: Mapping[str, float]) -> None:
        """Put a title and named values on the line; it appears with the next redraw.

        "validation" and "best epoch" stay until they are given again.
        """
        kept = {name: self._values[name] for name in _SCORES if name in self._values}
        self.title, self._values = title, {**kept, **values}

    def _text(self, state: dict[str, Any]) -> str:
        done, total = state["n"], state["total"]
        rate = (done - state["initial"]) / max(state["elapsed"], 1e-9)
        steps = [f"{done} steps" if total is None else f"{done}/{total} steps"]
        if rate:
            left = [] if total is None else [f"{tqdm.format_interval((total - done) / rate)} left"]
            steps += [*left, f"{rate:.3g}/s"]
        return fitting(self.title, self._values, steps, _width())

    def close(self) -> None:
        """End the line."""
        self._bar.close()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


_SCORES = ("validation", "best epoch")


def fitting(title: str, values: Mapping[str, float], steps: list[str], width: int) -> str:
    """The line: title, loss, validation, best epoch, steps, then the other values that fit.

    Example:
        >>> values = {"loss": 4.0, "ELBO": -4.0, "validation": 5.5}
        >>> fitting("epoch 2 of 9", values, ["8/36 steps"], 60)
        'epoch 2 of 9: loss 4, validation 5.5, 8/36 steps, ELBO -4'
        >>> fitting("epoch 2 of 9", values, ["8/36 steps"], 40)
        'epoch 2 of 9: loss 4, validation 5.5'
    """
    first = ("loss", *_SCORES)
    wanted = [f"{name} {values[name]:.5g}" for name in first if name in values] + steps
    others = [name for name in values if name not in first]
    wanted += [f"{name} {values[name]:.5g}" for name in sorted(others, key=lambda n: "/" in n)]
    line = f"{title}:"
    for text in wanted:
        longer = f"{line} {text}" if line.endswith(":") else f"{line}, {text}"
        line = longer if len(longer) <= width else line
    return line


def _width() -> int:
    """Columns of the terminal but one, so that no line wraps; a file has no end of them."""
    try:
        columns = int(os.environ.get("COLUMNS", 0)) or os.get_terminal_size(sys.stderr.fileno())[0]
    except (OSError, ValueError):
        return sys.maxsize
    return (columns or 80) - 1
