"""Where a run takes place: one device, or several that share every batch."""

import atexit
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pyro
import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

__all__: list[str] = []  # for the package, not for users


class Workers:
    """One process, or the processes that `torchrun` has started: each holds all parameters and
    computes its part of each batch.

    Args:
        device: None: where the parameters are.  Several processes on GPUs take one each.

    Raises:
        ValueError: for a device that there is not.
    """

    def __init__(self, device: Any = None) -> None:
        launched = distributed.is_available() and (
            distributed.is_initialized() or distributed.is_torchelastic_launched()
        )
        self.size = int(os.environ.get("WORLD_SIZE", 1)) if launched else 1
        self.rank = int(os.environ.get("RANK", 0)) if launched else 0
        if launched and distributed.is_initialized():
            self.size, self.rank = distributed.get_world_size(), distributed.get_rank()
        try:
            self.device = None if device is None else torch.device(device)
            if (
                self.device is not None
                and self.device.type == "cuda"
                and self.size > 1
                and self.device.index is None
            ):
                self.device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", self.rank)))
            if self.device is not None:
                torch.zeros((), device=self.device)
        except (RuntimeError, TypeError, AssertionError) as error:
            raise ValueError(
                f"device must be one that torch can use here, got {device!r} "
                f"({str(error).splitlines()[0]})."
            ) from None
        if self.size > 1 and not distributed.is_initialized():
            cuda = self.device is not None and self.device.type == "cuda"
            distributed.init_process_group("nccl" if cuda else "gloo")
            atexit.register(
                _leave
            )  # not earlier: a group set up anew can meet what is left of the old one

    @property
    def first(self) -> bool:
        """Whether this process is the one that prints and writes."""
        return self.rank == 0

    @property
    def share(self) -> tuple[int, int]:
        """Which part of a batch is ours."""
        return self.rank, self.size

    def wrapped(self, step: nn.Module, *, unused: bool) -> nn.Module:
        """The step with gradients averaged over all processes; `unused` says that some parameters
        have none.
        """
        if self.size == 1:
            return step
        return DistributedDataParallel(step, find_unused_parameters=unused)

    def summed(self, values: Tensor) -> Tensor:
        """The sum over all processes."""
        if self.size > 1:
            distributed.all_reduce(values)
        return values

    def from_first(self, values: Iterable[Tensor]) -> None:
        """Makes the values those of the first process."""
        if self.size > 1:
            with torch.no_grad():
                for value in values:
                    distributed.broadcast(value, 0)

    def agreed(self, decision: bool) -> bool:
        """The decision of the first process."""
        return (
            decision
            if self.size == 1
            else bool(self.summed(torch.tensor(float(decision and self.first), device=self.device)))
        )


def _leave() -> None:
    """Give up the process group, unless the user has done so."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


@contextmanager
def undisturbed() -> Iterator[bool]:
    """A block without Pyro's checks of values, which leaves random states and settings as they
    were; gives whether values were checked outside.

    Numbers below 1e-38 count as zero inside: the moments of idle units sink there, and processors
    are many times slower on them.
    """
    states, validated = pyro.util.get_rng_state(), pyro.distributions.is_validation_enabled()
    flushed = bool(torch.tensor(1e-39, device="cpu") * 1.0 == 0)
    torch.set_flush_denormal(True)
    try:
        with (
            torch.random.fork_rng(
                range(torch.cuda.device_count()) if torch.cuda.is_available() else []
            ),
            pyro.validation_enabled(False),
        ):
            yield validated
    finally:
        torch.set_flush_denormal(flushed)
        pyro.util.set_rng_state(states)
