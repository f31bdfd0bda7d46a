"""The run itself: state, epochs, validation, checkpoints, and what happens when a number is not
finite.
"""

import time
from typing import Any, NoReturn

import numpy as np
from jax import Array

from dgm_core.results import History
from dgm_core.training.patience import Patience
from dgm_core.training.progress import Progress
from numpyro_dgm.training import resuming
from numpyro_dgm.training.compiling import ArrayEpochs, StreamEpochs
from numpyro_dgm.training.guard import explain_nonfinite, last_good
from numpyro_dgm.training.parallel import Placement
from numpyro_dgm.training.run import NonFiniteError, Run
from numpyro_dgm.training.step import State
from numpyro_dgm.training.validating import Validation

__all__: list[str] = []  # for the package, not for users

# how long the progress line may stand still; shorter calls cost several per cent in copies of the
# state
_SECONDS_PER_CALL = 1.0


class Trainer:
    """The epochs of a run and what they change: state, history, best weights."""

    def __init__(
        self,
        epochs: ArrayEpochs | StreamEpochs,
        state: State,
        key: Array,
        validate: Validation | None,
        patience: Patience,
        config: dict[str, Any],
        num_epochs: int,
        placement: Placement,
    ) -> None:
        self.epochs, self.state, self.key, self.validate, self.patience = (
            epochs,
            state,
            key,
            validate,
            patience,
        )
        self.config, self.num_epochs, self.placement = config, num_epochs, placement
        self.history, self.epoch, self.num_steps = History(), 0, 0
        self.best: tuple[dict[str, Any], dict[str, Any]] | None = None  # params and mutable sites
        self.data_size = epochs.data.num_data
        self.names = ("loss", *epochs.step.loss.term_names)
        self._length = 1  # steps per call

    def train(self, bar: Progress) -> None:
        """One epoch, its row of the history and, where there is validation, its score."""
        began = time.perf_counter()
        self.epoch += 1
        self.epochs.begin(self.key, self.epoch)
        start, values, sizes = 0, [], []
        while (stop := self.epochs.reach(start, self._length)) > start:
            self.state, new = self._steps(start, stop)
            values.append(new)
            sizes.append(self.epochs.num_rows(start, stop))
            bar.advance(stop - start)
            if bar.enabled:
                bar.show(f"epoch {self.epoch} of {self.num_epochs}", self._means(values, sizes))
            start = stop
        self.data_size = self.data_size or int(np.concatenate(sizes).sum())
        self.num_steps += start
        row = {"epoch": self.epoch, "step": self.num_steps, **self._means(values, sizes)}
        if self.validate is not None:
            weights = self._current()
            row |= self.validate(self.state, weights)
            if self.patience.better(row["validation"], self.epoch):
                self.best = weights, self.state.mutable
        self.history.append({**row, "seconds": time.perf_counter() - began})

    def result(self, *, final: bool = False) -> Run:
        """The run so far: with the weights of the last step or their average, at the end with the
        best ones if there is validation.
        """
        best = self.best if final else None
        params, mutable = best or (self._current(), self.state.mutable)
        return Run(
            model=self.epochs.step.model,
            guide=self.epochs.step.guide,
            params=self.placement.gather(self.epochs.step.constrain(params)),
            history=History(self.history),
            config=self.config,
            data_size=self.data_size,
            epoch=self.epoch,
            best_epoch=self.patience.best_epoch if best else self.epoch,
            mutable_state=self.placement.gather(mutable),
        )

    def save(self, folder: Any) -> None:
        """Write a checkpoint."""
        meta = {
            "config": resuming._identity(self.config),
            "epoch": self.epoch,
            "history": list(self.history),
            "patience": self.patience.state(),
            "data_size": self.data_size,
        }
        resuming._save(folder, {"state": self.state, "best": self.best}, meta)

    def restore(self, folder: Any) -> None:
        """Go on from a checkpoint, if there is one."""
        found = resuming._load(folder, self.config)
        if found is None:
            return
        arrays, meta = found
        best = (self.state.params, self.state.mutable) if meta["patience"]["best_epoch"] else None
        tree = resuming._rebuild(arrays, {"state": self.state, "best": best})
        self.state, self.best = self.placement.put(tree["state"]), self.placement.put(tree["best"])
        self.history, self.epoch, self.data_size = (
            History(meta["history"]),
            meta["epoch"],
            meta["data_size"],
        )
        self.num_steps = int(self.state.step)
        self.patience.restore(meta["patience"])

    def _current(self) -> dict[str, Any]:
        return self.state.params if self.state.average is None else self.state.average

    def _means(self, values: list[np.ndarray], sizes: list[np.ndarray]) -> dict[str, float]:
        means = np.average(
            np.concatenate(values).astype(float), axis=0, weights=np.concatenate(sizes)
        )
        return dict(zip(self.names, means.tolist(), strict=True))

    def _steps(self, start: int, stop: int) -> tuple[State, np.ndarray]:
        began = time.perf_counter()
        state, values, finite = self.epochs.run(self.state, start, stop)
        if not finite:
            self._fail(start, stop)
        seconds = time.perf_counter() - began
        self._length = max(
            1, min(4 * self._length, round((stop - start) * _SECONDS_PER_CALL / seconds))
        )
        return state, values

    def _fail(self, start: int, stop: int) -> NoReturn:
        self.state, index = last_good(self.epochs, self.state, start, stop)
        site, subject, reason = explain_nonfinite(
            self.epochs.step, self.state, self.epochs.form(index), *self.epochs.batch(index)
        )
        step, self.epoch = int(self.state.step), self.epoch - 1
        run = self.result(final=True)
        kept = (
            f"The weights of epoch {run.best_epoch}"
            if self.best is not None
            else "The weights before that step"
        )
        message = (
            f"{subject} at step {step} (epoch {self.epoch + 1}): {reason}. {kept} are kept "
            "in error.run."
        )
        raise NonFiniteError(message, site=site, step=step, epoch=self.epoch + 1, run=run)
