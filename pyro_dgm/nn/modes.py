"""Switching networks between training and evaluation, and finding the networks that a
program uses.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import MethodType
from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import Message
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from pyro_dgm.compat import module_being_registered
from pyro_dgm.nn.register import watched, watching

__all__ = ["evaluation_mode"]


@contextmanager
def evaluation_mode(*callables: Callable[..., Any]) -> Iterator[None]:
    """Inside this block the models and guides given run in evaluation: drop-out is off, batch
    normalization uses its running statistics.

    Args:
        the models, guides or networks that are called inside the block. Afterwards everything is as
        it was before.
    """
    changed: list[nn.Module] = []

    def evaluate(module: nn.Module) -> None:
        for part in module.modules():
            if part.training:
                part.training = False
                changed.append(part)

    try:
        for module in owners(*callables):
            evaluate(module)
        with meeting(evaluate):
            yield
    finally:
        for part in changed:
            part.training = True


def owners(*callables: Any) -> list[nn.Module]:
    """The networks that callables are, are bound to, or have among their arguments as partials;
    those of an extended model are the user's."""
    found: list[nn.Module] = []
    for value in callables:
        if isinstance(value, nn.Module):
            found.append(value)
        elif isinstance(value, MethodType):
            found += owners(value.__self__)
        elif isinstance(value, partial):
            found += owners(value.func, *value.args, *value.keywords.values())
        elif hasattr(value, "plain"):
            found += owners(value.plain)
    return found


@contextmanager
def meeting(met: Callable[[nn.Module], None]) -> Iterator[None]:
    """Inside this block, and in this thread, `met` is called with every network that is called or
    registered (`register`, `pyro.module`) and had not been met, before it is used.
    """
    known: dict[int, nn.Module] = {}  # keeps what it names alive, so that no id is used twice

    def first(module: nn.Module) -> None:
        if id(module) not in known:
            known.update((id(part), part) for part in module.modules())
            met(module)

    def called(module: nn.Module, args: Any) -> None:
        if first in watching.get() and not torch.compiler.is_compiling():
            first(module)

    hook = register_module_forward_pre_hook(called)
    try:
        with watched(first), _Registered():
            yield
    finally:
        hook.remove()


class _Registered(Messenger):
    """Tells of the networks whose parameters `pyro.module` states, the outermost block first."""

    def _pyro_param(self, msg: Message) -> None:
        if isinstance(msg["args"][-1], nn.Parameter) and (module := module_being_registered()):
            for met in watching.get():
                met(module)
