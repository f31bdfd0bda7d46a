"""The run itself: state, epochs, validation, checkpoints, and the end by a bad number."""

import math
import time
from typing import Any, NoReturn

import numpy as np
from jax import Array

from dgm_core.guides import plain
from dgm_core.results import History
from dgm_core.training.checkpoint import CheckpointError
from dgm_core.training.epochs import Plan, Training
from dgm_core.training.patience import Patience
from dgm_core.training.progress import Progress
from numpyro_dgm.losses.state import STATES
from numpyro_dgm.training import resuming
from numpyro_dgm.training.compiling import ArrayEpochs, StreamEpochs
from numpyro_dgm.training.guard import explain_nonfinite, last_good
from numpyro_dgm.training.parallel import Placement
from numpyro_dgm.training.run import NonFiniteError, Run
from numpyro_dgm.training.step import State
from numpyro_dgm.training.validating import Validation

__all__: list[str] = []  # for the package, not for users

_SECONDS_PER_CALL = 2.0  # so long may the progress line stand still: a call takes memory anew


class Trainer(Training):
    """The epochs of a run and what they change: state, history, best weights."""

    def __init__(
        self,
        epochs: ArrayEpochs | StreamEpochs,
        state: State,
        key: Array,
        *,
        plan: Plan,
        validate: Validation | None,
        patience: Patience,
        config: dict[str, Any],
        identity: dict[str, Any],
        placement: Placement,
    ) -> None:
        super().__init__(plan, patience, config, identity, epochs.data.num_data)
        self.epochs, self.state, self.key, self.validate = epochs, state, key, validate
        self.placement = placement
        self.best: tuple[dict[str, Any], dict[str, Any]] | None = None  # params and mutable sites
        self.names = ("loss", *epochs.step.loss.term_names)
        self.passing = False  # whether a pass through the data has begun
        self._length = 1  # steps per call

    def prepare(self) -> None:
        """Nothing: steps are compiled when they are first taken."""

    def train(self, bar: Progress) -> None:
        """One epoch, its row of the history and, where there is validation, its score."""
        began = time.perf_counter()
        self.epoch += 1
        length, taken = self.plan.next_length(self.num_steps), 0
        sums, count = np.zeros(len(self.names)), 0
        while length is None or taken < length:
            if not self.passing:
                self.epochs.begin(self.key, self.passes + 1, self.position)
                self.passing = True
            most = self._length if length is None else min(self._length, length - taken)
            stop = self.epochs.reach(self.position, most)
            if stop == self.position:
                self.passes, self.position, self.passing = self.passes + 1, 0, False
                if length is None:
                    break
                continue
            sizes = self.epochs.num_rows(self.position, stop)
            # One step after the other: the same numbers however the steps are taken together.
            steps = sizes[:, None] * self._steps(stop).astype(float)
            sums, count = np.cumsum([sums, *steps], 0)[-1], count + int(sizes.sum())
            done = stop - self.position
            self.position, taken, self.num_steps = stop, taken + done, self.num_steps + done
            bar.advance(done)
            bar.show(self.title, dict(zip(self.names, (sums / count).tolist(), strict=True)))
        self.data_size = self.data_size or count
        row: dict[str, Any] = dict(zip(self.names, (sums / count).tolist(), strict=True))
        if self.validate is not None:
            row |= self._validated(self.validate)
        best = {"best epoch": self.patience.best_epoch} if self.validate is not None else {}
        bar.show(self.title, row | best)
        seconds = time.perf_counter() - began
        begun = {"epoch": self.epoch, "step": self.num_steps}
        self.history.append({**begun, **row, "seconds": seconds})

    def result(self, *, final: bool = False) -> Run:
        """The run so far, with the weights of the last step or their average.

        At the end with the best ones if there is validation.
        """
        best = self.best if final else None
        params, mutable = best or (self._current(), self.state.mutable)
        return Run(
            model=plain(self.epochs.step.model),
            guide=self.epochs.step.guide,
            params=self.placement.gather(self.epochs.step.constrain(params)),
            history=History(self.history),
            config=self.config,
            data_size=self.data_size,
            epoch=self.epoch,
            best_epoch=self.patience.best_epoch if best else self.epoch,
            mutable_state=self.placement.gather(mutable),
            term_state=self.placement.gather(mutable.get(STATES, {})),
            loss=self.epochs.step.loss,
        )

    def save(self, folder: Any) -> None:
        """Write a checkpoint."""
        resuming.save(folder, {"state": self.state, "best": self.best}, self.header())

    def restore(self, folder: Any) -> None:
        """Go on from a checkpoint, if there is one."""
        found = resuming.load(folder, self.identity)
        if found is None:
            return
        arrays, header = found
        like = (self.state.params, self.state.mutable)
        best = like if header["patience"]["best_epoch"] else None
        tree = resuming.rebuilt(arrays, {"state": self.state, "best": best})
        self.state, self.best = self.placement.put(tree["state"]), self.placement.put(tree["best"])
        self.remember(header)
        if bad := self.epochs.finite.first_bad(self.state):
            raise CheckpointError(
                f"The checkpoint in {folder} holds numbers that are not finite, in {bad[1]}. "
                "Start afresh with resume=False."
            )

    def _current(self) -> dict[str, Any]:
        return self.state.params if self.state.average is None else self.state.average

    def _steps(self, stop: int) -> np.ndarray:
        """The steps of this pass from its position to `stop`, and their values."""
        began, start = time.perf_counter(), self.position
        state, values, finite = self.epochs.run(self.state, start, stop)
        if not finite:
            self._fail(start, stop)
        self.state = state
        calls = _SECONDS_PER_CALL / (time.perf_counter() - began)
        self._length = max(1, min(4 * self._length, round((stop - start) * calls)))
        return values

    def _fail(self, start: int, stop: int) -> NoReturn:
        """Repeat the steps of the last call up to the one that spoils the state; stop there."""
        self.state, index = last_good(self.epochs, self.state, start, stop)
        site, subject, reason = explain_nonfinite(self.epochs, self.state, index)
        where = f"at step {int(self.state.step)} (epoch {self.epoch})"
        epoch = self.epoch
        self.back_to(epoch)
        self._stop(f"{subject} {where}: {reason}. {self.kept()}", site, epoch)

    def _stop(self, message: str, site: str | None, epoch: int) -> NoReturn:
        run, step = self.result(final=True), int(self.state.step)
        message = f"{message} are kept in error.run."
        raise NonFiniteError(message, site=site, step=step, epoch=epoch, run=run)

    def _validated(self, validate: Validation) -> dict[str, float]:
        """The scores of this epoch, which is the best so far or not."""
        weights = self._current()
        scores = validate(self.state, weights)
        if not math.isfinite(score := scores["validation"]):
            site, reason = validate.explain(self.state, weights)
            kept = self.kept().replace("before that step", "of that epoch")
            message = f"The validation score is {score} after epoch {self.epoch}: {reason}. {kept}"
            self._stop(message, site, self.epoch)
        if self.patience.better(score, self.epoch):
            self.best = weights, self.state.mutable
        return scores
