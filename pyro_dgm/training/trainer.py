"""The run itself: state, epochs, validation, checkpoints, and what happens when a number is not
finite.
"""

import math
import time
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
import pyro
import torch
from torch import Tensor

from dgm_core.results import History
from dgm_core.training.patience import Patience
from dgm_core.training.progress import Progress
from pyro_dgm.training import resuming
from pyro_dgm.training.batches import Arrays, Batch, Stream
from pyro_dgm.training.compiling import compiled_step, plain_step
from pyro_dgm.training.guard import explain_nonfinite
from pyro_dgm.training.parallel import Workers
from pyro_dgm.training.run import NonFiniteError, Run
from pyro_dgm.training.step import Parameters, Step
from pyro_dgm.training.updates import Updates
from pyro_dgm.training.validating import Validation

__all__: list[str] = []  # for the package, not for users

# between two redrawings of the progress line, and between two looks at the loss where those would
# wait for a GPU or another process
_STEPS = 20


class Trainer:
    """The epochs of a run and what they change: parameters, optimiser, history, best weights."""

    def __init__(
        self,
        step: Step,
        parameters: Parameters,
        updates: Updates,
        data: Arrays | Stream,
        *,
        transform: Callable | None,
        seed: int,
        num_epochs: int,
        validate: Validation | None,
        patience: Patience,
        config: dict[str, Any],
        workers: Workers,
        functions: tuple[Callable, Callable],
    ) -> None:
        self.step, self.parameters, self.updates, self.data = step, parameters, updates, data
        self.transform, self.seed, self.num_epochs = transform, seed, num_epochs
        self.validate, self.patience, self.config, self.workers, self.functions = (
            validate,
            patience,
            config,
            workers,
            functions,
        )
        self.named, self.buffers, self.critics = (
            parameters.distinct,
            parameters.buffers,
            step.loss._critic_tensors(),
        )
        device = updates.weights[0].device
        self.number = torch.zeros((), dtype=torch.int64, device=device)
        self.history, self.epoch, self.num_steps, self.data_size = History(), 0, 0, data.num_data
        self.best: dict[str, Any] | None = None
        self._keep()
        self.compiled: Any = None
        self.wrapped: torch.nn.Module = step
        self.unchecked: list[tuple[int, Batch, Tensor]] = []
        self.checked_every = 1 if device.type == "cpu" and workers.size == 1 else _STEPS

    def prepare(self, choice: bool | str, example: Batch) -> None:
        """Compile the step, or share it among the processes."""
        if self.workers.size > 1:
            plain_step(self.step, self.step, self.named, example, self.number)
            used = {id(weight) for weight in self.updates.weights if weight.grad is not None}
            self.wrapped = self.workers.wrapped(
                self.step,
                unused=any(id(p) not in used for p in self.step.parameters() if p.requires_grad),
            )
        elif not self.updates.needs_closure:
            batches = self.data.num_full if isinstance(self.data, Arrays) else self.data.num_batches
            self.compiled = compiled_step(
                choice, batches and batches * self.num_epochs, self.step, self.named, example
            )

    def train(self, bar: Progress) -> None:
        """One epoch, its row of the history and, where there is validation, its score."""
        began = time.perf_counter()
        self.epoch += 1
        noise, order = (
            int(seed) % 2**63
            for seed in np.random.SeedSequence((self.seed, self.epoch)).generate_state(2, np.uint64)
        )
        pyro.set_rng_seed((noise + self.workers.rank) % 2**32)
        title, names = (
            f"epoch {self.epoch} of {self.num_epochs}",
            ("loss", *self.step.loss.term_names),
        )
        values, sizes = [], []
        self.step.train_critics = True
        for batch in self.data.epoch(order, self.workers.share):
            values.append(self._update(batch.transformed(self.transform)))
            sizes.append(batch.size)
            bar.advance()
            if bar.enabled and len(sizes) % _STEPS == 1:
                bar.show(title, dict(zip(names, values[-1].tolist(), strict=True)))
        self.step.train_critics = False
        self._check()
        weights = torch.tensor(sizes, dtype=torch.float64, device=self.number.device)
        sums = self.workers.summed(
            torch.cat([weights @ torch.stack(values).double(), weights.sum()[None]])
        )
        self.data_size = self.data_size or int(sums[-1])
        row: dict[str, Any] = dict(zip(names, (sums[:-1] / sums[-1]).tolist(), strict=True))
        if self.validate is not None:
            with self.updates.averaged():
                row |= self.validate(self.number)
                if self.patience.better(row["validation"], self.epoch):
                    self.best = self._snapshot()
        bar.show(title, row)
        self.history.append(
            {
                "epoch": self.epoch,
                "step": self.num_steps,
                **row,
                "seconds": time.perf_counter() - began,
            }
        )
        if (
            self.num_steps - self.good_step >= _STEPS
        ):  # epochs of a step or two would be spent on copies
            self._keep()

    def result(self, *, final: bool = False) -> Run:
        """The run so far, with the weights of the last step or their average; at the end with the
        best ones if there is validation, left in the modules.
        """
        best = final and self.best is not None
        if best:
            self._put(self.best)
            params = self.parameters.constrained()
        else:
            with self.updates.averaged():
                params = self.parameters.constrained()
                averages = self._snapshot() if final else None
            self._put(averages)
        best_epoch = self.patience.best_epoch if best else self.epoch
        return Run(
            *self.functions,
            params,
            History(self.history),
            self.config,
            self.data_size,
            self.epoch,
            best_epoch,
        )

    def save(self, folder: Any, *, stopped: bool = False) -> None:
        """Write a checkpoint, once for all processes."""
        meta = {
            "config": resuming._identity(self.config),
            "epoch": self.epoch,
            "step": self.num_steps,
            "history": list(self.history),
            "patience": self.patience.state(),
            "data_size": self.data_size,
            "compiled": self.compiled is not None,
            "stopped": stopped,
        }
        if self.workers.first:
            optimisers = {
                "updates": self.updates.state(),
                "critics": self.step.loss._critic_optimisers(),
            }
            resuming._save(
                folder, {"weights": self._snapshot(), "best": self.best, **optimisers}, meta
            )

    def restore(self, folder: Any) -> dict[str, Any]:
        """Go on from a checkpoint; its header, empty where there is none."""
        self.workers.agreed(
            True
        )  # nobody reads before the first process, which may still be writing, gets here
        found = resuming._load(folder, self.config)
        if found is None:
            return {}
        tree, meta = found
        self._put(tree["weights"])
        self.updates.restore(tree["updates"])
        self.step.loss._restore_critic_optimisers(tree.get("critics", {}))
        self.best = tree["best"]
        self.history, self.epoch, self.num_steps, self.data_size = (
            History(meta["history"]),
            meta["epoch"],
            meta["step"],
            meta["data_size"],
        )
        self.patience.restore(meta["patience"])
        self.number.fill_(self.num_steps)
        self._keep()
        return meta

    def _update(self, batch: Batch) -> Tensor:
        def differentiate() -> Tensor:
            if self.compiled is not None and self.compiled.fits(batch):
                values = self.compiled(batch, self.number)
            else:
                values = plain_step(self.wrapped, self.step, self.named, batch, self.number)
            self.unchecked.append((self.num_steps, batch, values))
            if len(self.unchecked) >= self.checked_every:
                self._check()
            return values

        values = self.updates(self.num_steps, differentiate)
        self.num_steps += 1
        self.number.add_(1)
        return values

    def _check(self) -> None:
        """Stop if a loss since the last look, or one of its terms, is not finite."""
        if not self.unchecked:
            return
        if self.checked_every == 1:
            first = None if all(map(math.isfinite, self.unchecked[0][2].tolist())) else 0
        else:
            sums = self.workers.summed(
                torch.stack([values.sum() for *_, values in self.unchecked])
            ).tolist()
            first = next(
                (index for index, value in enumerate(sums) if not math.isfinite(value)), None
            )
        if first is not None:
            self._fail(*self.unchecked[first][:2])
        self.unchecked.clear()

    def _fail(self, step: int, batch: Batch) -> NoReturn:
        self.step.train_critics = False
        finite = self.checked_every == 1 and all(
            weight.isfinite().all() for weight in self.updates.weights
        )
        if not finite and self.checked_every > 1:  # the batch is to blame, or the step before it
            self._go_back()
        site, subject, reason = explain_nonfinite(
            self.step, self.named, batch, self.number.fill_(step)
        )
        if not finite:
            self._go_back()
        epoch, self.epoch = self.epoch, self.epoch - 1 if finite else self.good_epoch
        run = self.result(final=True)
        kept = (
            "The weights before that step"
            if finite and self.best is None
            else f"The weights of epoch {run.best_epoch}"
        )
        message = (
            f"{subject} at step {step} (epoch {epoch}): {reason}. {kept} are kept in error.run."
        )
        raise NonFiniteError(message, site=site, step=step, epoch=epoch, run=run)

    def _keep(self) -> None:
        """Remember the weights as good."""
        average = self.updates.average
        self.good, self.good_epoch, self.good_step = self._snapshot(), self.epoch, self.num_steps
        self.good_average = None if average is None else [value.clone() for value in average]

    def _go_back(self) -> None:
        """To the weights that were good."""
        self._put(self.good)
        self.updates.average = self.good_average

    def _snapshot(self) -> dict[str, dict[str, Tensor]]:
        kinds: dict[str, dict[str, Tensor]] = {
            "parameters": dict(self.named),
            "buffers": self.buffers,
            "critics": self.critics,
        }
        return {
            kind: {name: value.detach().clone() for name, value in tensors.items()}
            for kind, tensors in kinds.items()
        }

    def _put(self, snapshot: dict[str, dict[str, Tensor]] | None) -> None:
        with torch.no_grad():
            for kind, tensors in (
                ("parameters", self.named),
                ("buffers", self.buffers),
                ("critics", self.critics),
            ):
                for name, value in snapshot.get(kind, {}).items() if snapshot else ():
                    tensors[name].copy_(value)
