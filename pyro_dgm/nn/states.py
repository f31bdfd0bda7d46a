"""What networks keep beside their parameters, and runs that repeat a step."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, distributed

__all__: list[str] = []  # for the package, not for users

_share: ContextVar[float | None] = ContextVar("share", default=None)
_repeated: ContextVar[bool] = ContextVar("repeated", default=False)
_compared: ContextVar[bool] = ContextVar("compared", default=False)


def is_repeated() -> bool:
    """Whether a guide runs once more in one step, at the values that it drew before: what moves
    with every batch stays as that run found it.
    """
    return _repeated.get()


@contextmanager
def repeated() -> Iterator[None]:
    """A block in which a guide runs once more in one step."""
    token = _repeated.set(True)
    try:
        yield
    finally:
        _repeated.reset(token)


def is_compared() -> bool:
    """Whether runs are held against each other, so that nothing may be drawn that no site knows."""
    return _compared.get()


@contextmanager
def compared() -> Iterator[None]:
    """A block in which runs of the same values are held against each other."""
    token = _compared.set(True)
    try:
        yield
    finally:
        _compared.reset(token)


@contextmanager
def sharing(share: float | None) -> Iterator[None]:
    """A block in which this process has `share` of a batch, times the number of processes; None: it
    is alone.
    """
    token = _share.set(share)
    try:
        yield
    finally:
        _share.reset(token)


def averaged(tensors: Sequence[Tensor | None]) -> list[Tensor | None]:
    """The means over the processes, weighted by their shares, of real numbers; integers and what
    is missing stay, and so does everything where this process is alone.
    """
    share = _share.get()
    real = [x for x in tensors if x is not None and x.is_floating_point()]
    if share is None or not real:
        return list(tensors)
    flat = torch.cat([x.detach().reshape(-1).double() for x in real]) * share
    distributed.all_reduce(flat)
    parts = iter((flat / distributed.get_world_size()).split([x.numel() for x in real]))
    return [
        next(parts).reshape(x.shape).to(x.dtype) if x is not None and x.is_floating_point() else x
        for x in tensors
    ]


def summed(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The sums over the processes that share a batch; the tensors themselves where this one is
    alone.
    """
    if _share.get() is None:
        return tensors
    flat = torch.cat([x.detach().reshape(-1).double() for x in tensors])
    distributed.all_reduce(flat)
    parts = flat.split([x.numel() for x in tensors])
    return tuple(part.reshape(x.shape).to(x.dtype) for part, x in zip(parts, tensors, strict=True))


def rank() -> tuple[int, int]:
    """The number of this process, and how many share a batch."""
    if _share.get() is None:
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()
