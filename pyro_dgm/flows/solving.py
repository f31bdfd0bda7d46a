"""What a flow tells those of its transforms that are solved by steps: which random signs estimate
their traces, and whether they shall note what their paths cost.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dgm_core.ode import warn_coarse
from pyro_dgm.compat import in_torch_func
from pyro_dgm.nn.ode import rademacher

__all__: list[str] = []  # for the package, not for users


class Noise:
    """The random signs of one distribution: the same for the same shape, so that a draw and its
    score have the same.
    """

    def __init__(self) -> None:
        self._kept: dict[Any, Tensor] = {}

    def signs(self, index: int, num_probes: int, like: Tensor) -> Tensor:
        """(num_probes, *like.shape)."""
        place = index, num_probes, like.shape, like.dtype, like.device
        if place not in self._kept:
            self._kept[place] = rademacher(num_probes, like)
        return self._kept[place]


class _Solving(NamedTuple):
    noise: Noise
    place: int
    notes: list[dict[str, Tensor]] | None
    dets: bool = True


_solving: ContextVar[_Solving | None] = ContextVar("_solving", default=None)


@contextmanager
def solving(
    noise: Noise, index: int, notes: list[dict[str, Tensor]] | None = None, dets: bool = True
) -> Iterator[None]:
    """A block in which one transform of a stack, by its number, is applied."""
    token = _solving.set(_Solving(noise, index, notes, dets))
    try:
        yield
    finally:
        _solving.reset(token)


def signs(num_probes: int, like: Tensor) -> Tensor:
    """The signs of the distribution whose transform is applied; outside of one, new ones."""
    found = _solving.get() or _Solving(Noise(), 0, None)
    return found.noise.signs(found.place, num_probes, like)


def notes() -> list[dict[str, Tensor]] | None:
    """Where costs are noted; None where nobody asks."""
    found = _solving.get()
    return found.notes if found else None


def on_grid(transform: Any) -> bool:
    """Whether a transform is solved on a fixed grid: then its draws are the same without traces,
    and cost far less. Adaptive steps would be other ones.
    """
    return isinstance(getattr(transform, "solver", None), str)


def wants_dets() -> bool:
    """Whether anybody asks for log-determinants; where not, they may be zeros."""
    found = _solving.get()
    return found.dets if found else True


def reports(transform: Any, value: Tensor) -> bool:
    """Whether what is solved is reported: in evaluation, and without gradients."""
    seen = not (torch.compiler.is_compiling() or torch.compiler.is_exporting() or value.is_meta)
    learns = transform.training and torch.is_grad_enabled()
    return seen and not learns and not in_torch_func()


def warn_of_steps(transform: Any, num_steps: int, entries: int, errors: Tensor) -> None:
    """Warn where log-densities change by so much with twice the steps."""
    warn_coarse(repr(transform), num_steps, entries, errors.numpy(force=True))
