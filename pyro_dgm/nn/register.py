"""Registering the parameters of modules inside models."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

import pyro
import torch
from pyro.params import param_with_module_name
from torch import nn

from pyro_dgm.compat import stored_parameter

__all__ = ["register"]

M = TypeVar("M", bound=nn.Module)
# What is told of every module that is registered.
watching: ContextVar[tuple[Callable[[nn.Module], None], ...]] = ContextVar("watching", default=())
settled = ContextVar(
    "settled", default=False
)  # true inside training steps, which know all parameters already


_named: ContextVar[dict[str, nn.Module] | None] = ContextVar("_named", default=None)


@contextmanager
def named_networks() -> Iterator[dict[str, nn.Module]]:
    """A block after which the dict holds the networks that were registered in it, by name."""
    found: dict[str, nn.Module] = {}
    token = _named.set(found)
    try:
        yield found
    finally:
        _named.reset(token)


@contextmanager
def watched(met: Callable[[nn.Module], None]) -> Iterator[None]:
    """A block in which `met` is called with every module that is registered."""
    token = watching.set((*watching.get(), met))
    try:
        yield
    finally:
        watching.reset(token)


@contextmanager
def unwatched() -> Iterator[None]:
    """A block whose networks nobody is told of: they are known, or made in it."""
    token = watching.set(())
    try:
        yield
    finally:
        watching.reset(token)


def register(name: str, module: M) -> M:
    """Make the parameters of `module` trainable parts of a model or guide; call it there, and use
    the module that it returns.

    Parameters keep their attribute paths below `name`. A second module registered under the same
    name replaces the first, so a new instance never trains weights that an older one left behind. A
    module without parameters is returned as it is. A parameter in two places, as of a layer that is
    used twice, is one; in NumPyro it is known by its array.
    """
    for met in watching.get():
        met(module)
    found = _named.get()
    if found is not None:
        found[name] = module
    if settled.get():
        return module
    tracing = (
        torch.compiler.is_compiling() or torch.compiler.is_exporting()
    )  # parameters are stand-ins then
    for path, parameter in module.named_parameters():
        if parameter.requires_grad:
            site = param_with_module_name(name, path)
            if not tracing and stored_parameter(site, parameter) is not parameter:
                del pyro.get_param_store()[site]
            pyro.param(site, parameter)
    return module
