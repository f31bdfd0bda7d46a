"""The run itself: state, epochs, validation, checkpoints, and the end by a bad number."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, NamedTuple, NoReturn

import numpy as np
import pyro
import torch
from torch import Tensor

from dgm_core.results import History
from dgm_core.training.checkpoint import CheckpointError
from dgm_core.training.epochs import Plan, Training
from dgm_core.training.patience import Patience
from dgm_core.training.progress import Progress
from dgm_core.training.resuming import fitting
from pyro_dgm.losses.state import snapshot, tensors_of
from pyro_dgm.training import resuming
from pyro_dgm.training.batches import Arrays, Batch, Stream
from pyro_dgm.training.compiling import compiled_step, plain_step
from pyro_dgm.training.guard import Everything, explain_nonfinite
from pyro_dgm.training.parallel import Workers
from pyro_dgm.training.run import NonFiniteError, Run
from pyro_dgm.training.step import Parameters, Step
from pyro_dgm.training.updates import NotFiniteError, Updates
from pyro_dgm.training.validating import Validation
from pyro_dgm.training.weights import held_by_networks

__all__: list[str] = []  # for the package, not for users

_STEPS = 20  # between two looks at the loss where those would wait for a GPU or another process
# Steps between two copies of a good state, with their batches: what is repeated after a number that
# is not finite; fewer where the batches of a stream are large.
_KEPT, _BYTES = 100, 16e6


class _Taken(NamedTuple):
    """A batch of a step taken; of data in memory its rows alone, and with the random state of the
    first step of an epoch.
    """

    epoch: int
    batch: Batch
    random: Any


class Trainer(Training):
    """The epochs of a run and what they change: parameters, optimizer, history, best weights."""

    def __init__(
        self,
        step: Step,
        parameters: Parameters,
        updates: Updates,
        data: Arrays | Stream,
        *,
        transform: Callable | None,
        seed: int,
        plan: Plan,
        validate: Validation | None,
        patience: Patience,
        config: dict[str, Any],
        identity: dict[str, Any],
        workers: Workers,
        functions: tuple[Callable, Callable],
        example: Batch,
        compile: bool | str,
        user_validates: bool,
    ) -> None:
        super().__init__(plan, patience, config, identity, data.num_data)
        self.step, self.parameters, self.updates, self.data = step, parameters, updates, data
        self.transform, self.seed, self.validate, self.workers = transform, seed, validate, workers
        self.functions, self.example, self.compile = functions, example, compile
        self.user_validates = user_validates
        self.everything = Everything(parameters, updates, step)
        # Buffers that no step has changed so far: they must be the same when the run goes on.
        buffers = self.everything.weights["buffers"]
        self.constants = resuming.contents(buffers) if identity else {}
        device = updates.weights[0].device
        self.number = torch.zeros((), dtype=torch.int64, device=device)
        self.best: dict[str, Any] | None = None
        self.compiled: Any = None
        self.wrapped: torch.nn.Module = step
        self.batches: Iterator[Batch] | None = None  # what is left of this pass through the data
        self.names = ("loss", *step.loss.term_names)
        self.pending: list[tuple[Tensor, int]] = []  # losses that nobody has looked at, and sizes
        self.since: list[_Taken] = []
        self.looked = 0  # after how many steps all numbers have last been looked at
        self.checked_every = 1 if device.type == "cpu" and workers.size == 1 else _STEPS
        self._keep()

    def prepare(self) -> None:
        """Compile the step, or share it among the processes."""
        named = self.everything.named_parameters
        if self.workers.size > 1:
            before = self.everything.copies()
            plain_step(self.step, self.step, named, self.example, self.number)
            self.everything.back(before)
            used = {id(weight) for weight in self.updates.weights if weight.grad is not None}
            trained = (p for p in self.step.parameters() if p.requires_grad)
            unused = any(id(parameter) not in used for parameter in trained)
            self.wrapped = self.workers.wrapped(self.step, unused=unused)
            self.workers.from_first(tensors_of(self.step.states).values())
            self._keep()
        elif not self.updates.needs_closure:
            full = self.data.num_full if isinstance(self.data, Arrays) else self.data.num_batches
            in_epochs = full and full * self.plan.num_epochs
            planned = self.plan.num_steps if self.plan.length else in_epochs
            self.compiled = compiled_step(self.compile, planned, self.step, named, self.example)

    def train(self, bar: Progress) -> None:
        """One epoch, its row of the history and, where there is validation, its score."""
        began = time.perf_counter()
        self.epoch += 1
        self._seed(self.epoch)
        self.sums = [0.0] * (1 + len(self.names))  # and the number of data
        self.step.update = True
        for batch in self._epoch(self.plan.next_length(self.num_steps)):
            values = self._update(batch)
            bar.advance()
            if values and bar.enabled:
                bar.show(self.title, dict(zip(self.names, values, strict=True)))
        self.step.update = False
        self._look_at_losses_or_fail()
        *sums, count = self.sums
        self.data_size = self.data_size or int(count)
        row: dict[str, Any] = {name: s / count for name, s in zip(self.names, sums, strict=True)}
        if self.validate is not None:
            self._look()
            row |= self._validated(self.validate)
        best = {"best epoch": self.patience.best_epoch} if self.validate is not None else {}
        bar.show(self.title, row | best)
        seconds = time.perf_counter() - began
        done = {"epoch": self.epoch, "step": self.num_steps}
        self.history.append({**done, **row, "seconds": seconds})

    def result(self, *, final: bool = False) -> Run:
        """The run so far, with the weights of the last step or their average.

        At the end with the best ones if there is validation, and left in the modules.
        """
        self._look()
        return self._run(final=final)

    def answers(self, callbacks: Sequence[Callable[[Any], Any]]) -> bool:
        """Whether one of the callbacks, called in the first process alone, ends the run."""
        stop = False
        if callbacks and self.workers.first:
            self.step.update = False
            with pyro.validation_enabled(self.user_validates):
                stop = super().answers(callbacks)
        return self.workers.agreed(stop)

    def save(self, folder: Any) -> None:
        """Write a checkpoint, once for all processes."""
        self._look()
        buffers = resuming.contents(self.everything.weights["buffers"])
        self.constants = {k: x for k, x in self.constants.items() if buffers[k] == x}
        header = {**self.header(), "constants": self.constants}
        header["compiled"] = self.compiled is not None
        if self.workers.first:
            weights = self.everything.snapshot()
            tree = {"weights": weights, "best": self.best, "updates": self.updates.state()}
            resuming.save(folder, tree, header)

    def restore(self, folder: Any) -> None:
        """Go on from a checkpoint, if there is one."""
        self.workers.agreed(True)  # the first process may still be writing
        found = resuming.load(folder, self.identity)
        if found is None:
            return
        tree, header = found
        for kind, tensors in self.everything.weights.items():
            fitting(tree["weights"][kind], tensors, resuming.form)
        fitting(header["constants"], {k: self.constants[k] for k in header["constants"]}, str)
        self.constants = header["constants"]
        self.everything.put(tree["weights"])
        self.updates.restore(tree["updates"])
        self.best = tree["best"]
        self.remember(header)
        self.compile = header["compiled"]
        self.number.fill_(self.num_steps)
        if bad := self.everything.first_bad():
            raise CheckpointError(
                f"The checkpoint in {folder} holds numbers that are not finite, in {bad[1]}. "
                "Start afresh with resume=False."
            )
        self._keep()

    def _seed(self, epoch: int) -> None:
        noise, _ = self._seeds(epoch)
        pyro.set_rng_seed((noise + self.workers.rank) % 2**32)

    def _seeds(self, index: int) -> tuple[int, int]:
        """Of the noise of an epoch, and of the order of a pass."""
        state = np.random.SeedSequence((self.seed, index)).generate_state(2, np.uint64)
        return int(state[0]) % 2**63, int(state[1]) % 2**63

    def _epoch(self, length: int | None) -> Iterator[Batch]:
        """The batches of an epoch: this pass through the data, or so many, of several passes."""
        taken = 0
        while length is None or taken < length:
            if self.batches is None:
                order = self._seeds(self.passes + 1)[1]
                passing = self.data.epoch(order, self.workers.share)
                self.batches = islice(passing, self.position, None)  # a resumed run goes on inside
            for batch in islice(self.batches, length and length - taken):
                self.position, taken = self.position + 1, taken + 1
                yield batch
            if length is None or taken < length:
                self.passes, self.position, self.batches = self.passes + 1, 0, None
            if length is None:
                return

    def _update(self, batch: Batch) -> list[float]:
        """One step; its loss and terms where somebody has looked at them."""
        in_memory = isinstance(self.data, Arrays)
        new = not self.since or self.since[-1].epoch != self.epoch
        random = pyro.util.get_rng_state() if new else None
        kept = batch._replace(arrays=()) if in_memory else batch
        self.since.append(_Taken(self.epoch, kept, random))
        if not in_memory and self.workers.size == 1:
            self.held += sum(getattr(array, "nbytes", 0) for array in batch.arrays)
        try:
            values = self._step(batch)
        except NotFiniteError:
            self._fail()
        self.num_steps += 1
        self.number.add_(1)
        if len(self.since) >= _KEPT or self.held > _BYTES:
            self._look_at_losses_or_fail()
            self._keep()
        return values

    def _step(self, batch: Batch) -> list[float]:
        """The step itself. Raises NotFiniteError for a loss or a term that is not finite."""
        batch = batch.transformed(self.transform)

        def differentiate() -> Tensor:
            if self.compiled is not None and self.compiled.fits(batch):
                return self.compiled(batch, self.number)
            named = self.everything.named_parameters
            return plain_step(self.wrapped, self.step, named, batch, self.number)

        values = self.updates(self.num_steps, differentiate)
        if self.checked_every == 1:
            return self._counted(values.tolist(), batch.size)
        self.pending.append((values, batch.size))
        if len(self.pending) >= self.checked_every:
            return self._look_at_losses()
        return []

    def _look_at_losses(self) -> list[float]:
        """Add up the losses since the last look; the newest."""
        newest: list[float] = []
        if not self.pending:
            return newest
        values, sizes = zip(*self.pending)
        self.pending.clear()
        weights = torch.tensor(sizes, dtype=torch.float64, device=self.number.device)[:, None]
        table = torch.cat([torch.stack(values) * weights, weights], 1)
        for *row, size in self.workers.summed(table).tolist():
            newest = self._counted([value / size for value in row], size)
        return newest

    def _look_at_losses_or_fail(self) -> None:
        try:
            self._look_at_losses()
        except NotFiniteError:
            self._fail()

    def _counted(self, values: list[float], size: float) -> list[float]:
        if not all(map(math.isfinite, values)):
            raise NotFiniteError
        self.sums = [s + size * value for s, value in zip(self.sums, (*values, 1.0))]
        return values

    def _look(self) -> None:
        """Nothing is kept, saved or handed over that nobody has looked at."""
        if self.since and self.looked < self.num_steps and self._spoiled():
            self._fail()
        self.looked = self.num_steps

    def _spoiled(self) -> tuple[str | None, str] | None:
        """What is not finite, in any of the processes."""
        bad = self.everything.first_bad()
        if self.workers.size > 1:
            flag = torch.tensor(float(bad is not None), device=self.number.device)
            if self.workers.summed(flag) and bad is None:
                return None, "a number of another process"
        return bad

    def _keep(self) -> None:
        """Remember the present state as good, once it has been looked at."""
        self._look()
        self.good = self.everything.copies(), self.num_steps
        self.since = []
        self.held = 0  # bytes

    def _fail(self) -> NoReturn:
        """Repeat the steps since the last good state up to the one that spoils it; stop there."""
        (state, self.num_steps), taken = self.good, self.since
        self.everything.back(state)
        self.step.update = True
        spoiled: tuple[str | None, str] | None = None
        for step in taken:
            if step.random is not None:
                pyro.util.set_rng_state(step.random)
            state, epoch, batch = self.everything.copies(), step.epoch, self._whole(step.batch)
            self.number.fill_(self.num_steps)
            failed = self._fails(batch)
            spoiled = self._spoiled()
            if failed or spoiled:
                break
            self.num_steps += 1
        self.everything.back(state)
        self.step.update = False
        batch = batch.transformed(self.transform)
        args = (self.step, self.updates, self.everything, batch, self.number, spoiled)
        site, subject, reason = explain_nonfinite(*args)
        self.everything.back(state)
        self.back_to(epoch)
        where = f"at step {int(self.number)} (epoch {epoch})"
        self._stop(f"{subject} {where}: {reason}. {self.kept()}", site, epoch)

    def _fails(self, batch: Batch) -> bool:
        """Whether a step, taken once more, gives a loss that is not finite."""
        try:
            self._step(batch)
            self._look_at_losses()
        except NotFiniteError:
            return True
        return False

    def _whole(self, batch: Batch) -> Batch:
        """A batch with its arrays."""
        if not isinstance(self.data, Arrays):
            return batch
        if batch.rows is None:
            return batch._replace(arrays=self.data.arrays)
        return self.data.take(batch.rows)._replace(share=batch.share)

    def _stop(self, message: str, site: str | None, epoch: int) -> NoReturn:
        run = self._run(final=True)
        message = f"{message} are kept in error.run."
        step = int(self.number)
        raise NonFiniteError(message, site=site, step=step, epoch=epoch, run=run)

    def _validated(self, validate: Validation) -> dict[str, float]:
        """The scores of this epoch, which is the best so far or not."""
        with self.updates.averaged():
            scores = validate(self.number, self.step.states)
            if not math.isfinite(scores["validation"]):
                site, reason = validate.explain(self.number)
            elif self.patience.better(scores["validation"], self.epoch):
                self.best = self.everything.snapshot()
        if not math.isfinite(score := scores["validation"]):
            kept = self.kept().replace("before that step", "of that epoch")
            message = f"The validation score is {score} after epoch {self.epoch}: {reason}. {kept}"
            self._stop(message, site, self.epoch)
        return scores

    def _run(self, *, final: bool) -> Run:
        best = final and self.best is not None
        networks = tuple(self.parameters.modules)
        if best:
            self.everything.put(self.best)
            params, held = self.parameters.constrained(), held_by_networks(networks)
        else:
            with self.updates.averaged():
                params, held = self.parameters.constrained(), held_by_networks(networks)
                averages = self.everything.snapshot() if final else None
            self.everything.put(averages)
        best_epoch = self.patience.best_epoch if best else self.epoch
        history = History(self.history)
        size = self.data_size
        counts = self.epoch, best_epoch
        run = Run(*self.functions, params, history, self.config, size, *counts, held)
        return replace(
            run, term_state=snapshot(self.step.states), networks=networks, loss=self.step.loss
        )
