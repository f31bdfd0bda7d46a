"""Numbers that several processes, each on its part of a batch, hold in common."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, distributed

__all__: list[str] = []  # for losses and training, not for users

_share: ContextVar[float | None] = ContextVar("share", default=None)


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
