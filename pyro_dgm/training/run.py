"""What `fit` returns, and the error it raises when a number is not finite."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from dgm_core.results import History

__all__ = ["NonFiniteError", "Run"]


@dataclass(repr=False)
class Run:
    """A trained model and guide, with all that evaluation needs."""

    model: Callable
    guide: Callable
    params: dict[str, Any]
    history: History
    config: dict[str, Any]
    data_size: int | None
    epoch: int = 0
    best_epoch: int = 0
    mutable_state: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        total = f" of {self.config['num_epochs']}" if "num_epochs" in self.config else ""
        parts = [f"epoch {self.epoch}{total}"]
        if len(self.history):
            shown = {
                name: value
                for name, value in self.history.last.items()
                if name not in ("epoch", "seconds") and "/" not in name
            }
            parts += [f"{name} {value:.6g}" for name, value in shown.items()]
        return f"Run({', '.join(parts)})"


class NonFiniteError(ArithmeticError):
    """The loss, a gradient or a weight became NaN or infinite.

    Attributes: site, the first site with a number that is not finite (None when there is none);
        step and epoch; run, a Run with the last good weights.
    """

    def __init__(self, message: str, *, site: str | None, step: int, epoch: int, run: Run) -> None:
        super().__init__(message)
        self.site, self.step, self.epoch, self.run = site, step, epoch, run
