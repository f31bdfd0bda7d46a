"""How a run is divided into epochs, what is known of it between them, and when it ends."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dgm_core.results import History
from dgm_core.training.checkpoint import CheckpointError
from dgm_core.training.patience import Patience
from dgm_core.training.progress import Progress

_EPOCHS = 100  # about so many has a run whose length is given in steps


class Plan:
    """How long a run is, and how long its epochs are.

    With `num_epochs` an epoch is one pass through the data.  With `num_steps` it is a whole number
    of passes, as many as give a run of about a hundred epochs, or a hundredth of the steps where
    nobody knows how many batches a pass has: so often are history, validation, callbacks,
    patience and checkpoints served.

    Args:
        num_epochs: passes through the data; 1 where `num_steps` is left out as well.
        num_steps: steps in all, instead of epochs.
        num_batches: batches in a pass, None where that is unknown.

    Attributes:
        num_epochs: epochs of the whole run.
        num_steps: steps of the whole run, None where they are unknown.
        length: steps in an epoch, None for one pass, however long it is.

    Example:
        >>> plan = Plan(num_steps=1500, num_batches=7)
        >>> plan.length, plan.num_epochs, plan.next_length(1498)
        (14, 108, 2)
    """

    def __init__(
        self,
        num_epochs: int | None = None,
        num_steps: int | None = None,
        num_batches: int | None = None,
    ) -> None:
        self.num_steps, self.length = num_steps, None
        if num_steps is None:
            self.num_epochs = num_epochs or 1
            self.num_steps = num_batches and num_batches * self.num_epochs
            return
        part = max(1, round(num_steps / _EPOCHS))
        self.length = num_batches * max(1, round(part / num_batches)) if num_batches else part
        self.num_epochs = math.ceil(num_steps / self.length)

    def next_length(self, step: int) -> int | None:
        """How many steps the epoch has that begins after `step` others."""
        if self.length is None or self.num_steps is None:
            return None
        return min(self.length, self.num_steps - step)

    def is_over(self, epoch: int, step: int) -> bool:
        """Whether the run ends after so many epochs and steps."""
        if self.length is None or self.num_steps is None:
            return epoch >= self.num_epochs
        return step >= self.num_steps


class Training(ABC):
    """A run in progress: what it has done, and the order in which everything happens.

    A backend writes `prepare`, `train`, `result` and `save`.

    Attributes:
        history, epoch, num_steps: rows, epochs and steps so far.
        passes, position: passes through the data that have ended, batches taken of the present one.
        data_size: number of data, None until a stream has been seen once.
        stopped: whether a callback has ended the run.
    """

    def __init__(
        self,
        plan: Plan,
        patience: Patience,
        config: dict[str, Any],
        identity: dict[str, Any],
        data_size: int | None,
    ) -> None:
        self.plan, self.patience, self.data_size = plan, patience, data_size
        self.config, self.identity = config, identity
        self.history, self.epoch, self.num_steps = History(), 0, 0
        self.passes, self.position = 0, 0
        self.stopped = False

    @abstractmethod
    def train(self, bar: Progress) -> None:
        """One epoch, its row of the history and, where there is validation, its score."""

    @abstractmethod
    def result(self, *, final: bool = False) -> Any:
        """The run so far; at the end with the best weights, if there is validation."""

    @abstractmethod
    def save(self, folder: Any) -> None:
        """Write a checkpoint."""

    @abstractmethod
    def prepare(self) -> None:
        """What comes before the first step."""

    def answers(self, callbacks: Sequence[Callable[[Any], Any]]) -> bool:
        """Whether one of the callbacks, all of which are called, ends the run."""
        stops = [callback(self.result()) is True for callback in callbacks]
        return any(stops)

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to do."""
        over = self.plan.is_over(self.epoch, self.num_steps)
        return over or self.patience.exhausted or self.stopped

    @property
    def title(self) -> str:
        """How errors and the progress line name the epoch."""
        return f"epoch {self.epoch} of {max(self.epoch, self.plan.num_epochs)}"

    def run(
        self,
        bar: Progress,
        *,
        callbacks: Sequence[Callable[[Any], Any]] = (),
        checkpoint: Any = None,
        checkpoint_every: int = 1,
    ) -> Any:
        """All epochs that are left, and the run that comes out.

        A run that a callback has stopped stays so as long as there are callbacks.  An error in
        writing a checkpoint carries the run as `error.run`.
        """
        self.stopped = self.stopped and bool(callbacks)
        if not self.is_over:
            self.prepare()
        while not self.is_over:
            self.train(bar)
            self.stopped = self.answers(callbacks)
            if checkpoint is not None and (self.is_over or self.epoch % checkpoint_every == 0):
                try:
                    self.save(checkpoint)
                except CheckpointError as error:
                    error.run = self.result(final=True)
                    raise
        return self.result(final=True)

    def header(self) -> dict[str, Any]:
        """What a checkpoint must know beside tensors."""
        names = ("epoch", "num_steps", "passes", "position", "data_size", "stopped")
        done = {name: getattr(self, name) for name in names}
        noted = {"history": list(self.history), "patience": self.patience.state()}
        return {**done, **noted, "config": self.config, "identity": self.identity}

    def remember(self, header: Mapping[str, Any]) -> None:
        """Go on from the header of a checkpoint."""
        for name in ("epoch", "num_steps", "passes", "position", "data_size", "stopped"):
            setattr(self, name, header[name])
        self.history = History(header["history"])
        self.patience.restore(header["patience"])

    def back_to(self, epoch: int) -> None:
        """Forget what was noted in `epoch` and later."""
        self.history = History(row for row in self.history if row["epoch"] < epoch)
        self.epoch = epoch - 1

    def kept(self) -> str:
        """Which weights an error hands over in `error.run`."""
        best = self.patience.best_epoch
        return f"The weights of epoch {best}" if best else "The weights before that step"
