"""Switching networks between training and evaluation, and finding the networks that a
program uses.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import nn

__all__ = ["evaluation_mode"]


@contextmanager
def evaluation_mode(*callables: Callable[..., Any]) -> Iterator[None]:
    """Inside this block the models and guides given run in evaluation: drop-out is off, batch
    normalization uses its running statistics.

    Args:
        the models, guides or networks that are called inside the block. Afterwards everything is as
        it was before.
    """
    modules = {
        part for module in modules_of(*callables) for part in module.modules() if part.training
    }
    try:
        for part in modules:
            part.training = False
        yield
    finally:
        for part in modules:
            part.training = True


def modules_of(*callables: Any) -> list[nn.Module]:
    """The networks that callables use: themselves, the objects they are bound to, and what
    partials, closures and globals hold.
    """
    found: list[nn.Module] = []
    seen: dict[int, Any] = {}  # keeps what it names alive, so that no id is used twice
    waiting = list(callables)
    while waiting:
        value = waiting.pop()
        if id(value) in seen or isinstance(value, _LEAVES) or _is_foreign(value):
            continue
        seen[id(value)] = value
        if isinstance(value, nn.Module):
            found.append(value)
        elif isinstance(value, MethodType):
            waiting += [value.__self__, value.__func__]
        elif isinstance(value, partial):
            waiting += [value.func, *value.args, *value.keywords.values()]
        elif isinstance(value, FunctionType):
            closure = dict(zip(value.__code__.co_freevars, value.__closure__ or ()))
            waiting += [cell.cell_contents for cell in closure.values() if cell != CellType()]
            waiting += [
                value.__globals__[name]
                for name in _names(value.__code__)
                if name in value.__globals__
            ]
            waiting += [
                *(value.__defaults__ or ()),
                *(value.__kwdefaults__ or {}).values(),
                *vars(value).values(),
            ]
        elif isinstance(value, list | tuple | set | frozenset):
            waiting += value
        elif isinstance(value, dict):
            waiting += value.values()
        else:
            waiting += getattr(value, "__dict__", {}).values()
    return found


_LEAVES = (ModuleType, type, torch.Tensor, str, bytes, int, float, complex, type(None))


def _is_foreign(value: Any) -> bool:
    """Functions of the libraries themselves: what they refer to is not the user's."""
    return (
        isinstance(value, FunctionType)
        and not value.__closure__
        and (value.__module__ or "").split(".")[0] in ("pyro", "torch")
    )


def _names(code: CodeType) -> set[str]:
    """The names that a function and the functions inside it look up outside."""
    inner = (part for part in code.co_consts if isinstance(part, CodeType))
    return set(code.co_names).union(*map(_names, inner))
