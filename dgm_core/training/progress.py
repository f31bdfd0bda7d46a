"""The progress line of a training loop."""

from __future__ import annotations

from collections.abc import Mapping

from tqdm.std import tqdm


class _Bar(tqdm):
    monitor_interval = 0  # no thread of its own


class Progress:
    """One line on stderr: epoch, steps per second and the newest value of every term.

    Args: num_steps, of the whole run (None: unknown); done, the steps done before; enabled, False
        shows nothing.
    Cost: below a microsecond a step; the line is redrawn ten times a second at most.

    >>> with Progress(10, enabled=False) as progress:
    ...     progress.advance(5)
    ...     progress.show("epoch 1 of 2", {"loss": 105.2, "ELBO": -105.2})
    """

    def __init__(
        self, num_steps: int | None = None, *, done: int = 0, enabled: bool = True
    ) -> None:
        self.enabled = enabled
        self._bar = _Bar(
            total=num_steps, initial=done, disable=not enabled, unit="step", dynamic_ncols=True
        )

    def advance(self, num_steps: int = 1) -> None:
        """Count steps."""
        if self.enabled:
            self._bar.update(num_steps)

    def show(self, title: str, values: Mapping[str, float]) -> None:
        """Put a title and named values on the line; it appears with the next redraw."""
        if self.enabled:
            self._bar.set_description_str(title, refresh=False)
            self._bar.set_postfix_str(
                ", ".join(f"{name} {value:.5g}" for name, value in values.items()), refresh=False
            )

    def close(self) -> None:
        """End the line."""
        self._bar.close()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
