"""Early stopping."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dgm_core.arguments import check_count


class Patience:
    """Early stopping: remembers the best score (the smallest) and counts the epochs since.

    Args:
        limit: the number of epochs without a better score after which `exhausted` is true (None:
            never).

    Attributes:
        best: the best score (infinity before the first).
        best_epoch: ; waited.

    Raises:
        ValueError: if limit is below 1.

    Example:
        >>> patience = Patience(2)
        >>> scores = (3.0, 2.0, 2.5, float("nan"))
        >>> [patience.better(score, epoch) for epoch, score in enumerate(scores, start=1)]
        [True, True, False, False]
        >>> patience.exhausted, patience.best, patience.best_epoch
        (True, 2.0, 2)
    """

    def __init__(self, limit: int | None = None) -> None:
        if limit is not None:
            limit = check_count("limit", limit)
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
        self.best, self.best_epoch, self.waited = (
            float(state["best"]),
            int(state["best_epoch"]),
            int(state["waited"]),
        )
