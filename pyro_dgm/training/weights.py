"""The weights of a run, apart from those of its model and guide, and put in force for a while."""

import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import Message
from torch import Tensor, nn

from pyro_dgm.compat import own_store, tensor_slots
from pyro_dgm.nn.modes import modules_of
from pyro_dgm.nn.register import settled

__all__ = ["held_by_networks", "in_force"]


def held_by_networks(model: Callable, guide: Callable) -> dict[str, Any]:
    """Copies of all that the networks of model and guide hold, parameters and running statistics,
    by the number of the network and the path inside it; empty in NumPyro, where networks hold
    nothing that changes.
    """
    return {name: slot[key].detach().clone() for name, slot, key in _slots(model, guide)}


@contextmanager
def in_force(run: Any) -> Iterator[dict[str, Any]]:
    """Inside this block model and guide of a run have the run's weights; afterwards the networks
    and the parameter store are as they were before, also after an error.

    An object without weights of its own (a model) keeps those that it has. In NumPyro, gives the
    values of the parameter sites, which whoever runs the model hands out.

    Raises:
        ValueError: the networks are no longer those of the run.
    """
    with ExitStack() as stack:
        owns = bool(getattr(run, "params", None) or getattr(run, "mutable_state", None))
        stack.enter_context(own_store(empty=owns))
        if owns:
            stack.enter_context(_swapped(run))
            stack.enter_context(_Handed(run.params))
            stack.callback(settled.reset, settled.set(True))
        yield {}


@contextmanager
def _swapped(run: Any) -> Iterator[None]:
    """The run's tensors in the places of the networks' own."""
    kept: list[tuple[dict, str, Any]] = []
    slots = list(_slots(run.model, run.guide))
    _check_slots(slots, run.mutable_state)
    try:
        for name, slot, key in slots:
            own, value = slot[key], run.mutable_state[name]
            if isinstance(own, nn.Parameter):
                value = nn.Parameter(value, requires_grad=own.requires_grad)
            else:
                value = value.clone()  # an evaluation may change it, and the run must not change
            kept.append((slot, key, own))
            slot[key] = value
        yield
    finally:
        for slot, key, own in reversed(kept):
            slot[key] = own


def _slots(model: Callable, guide: Callable) -> Iterator[tuple[str, dict[str, Any], str]]:
    """(name, dict, key) of every tensor that the networks hold."""
    found = modules_of(model, guide)
    inside = {id(part) for module in found for part in module.modules() if part is not module}
    outermost = [module for module in found if id(module) not in inside]
    for number, module in enumerate(outermost):
        for path, part in module.named_modules():
            for slot in tensor_slots(part):
                for key, tensor in slot.items():
                    if tensor is not None:
                        yield ".".join(filter(None, (str(number), path, key))), slot, key


def _check_slots(slots: list[tuple[str, dict[str, Any], str]], own: Mapping[str, Tensor]) -> None:
    shapes = {name: slot[key].shape for name, slot, key in slots}
    if changed := [
        name
        for name in {**own, **shapes}
        if name not in own or name not in shapes or own[name].shape != shapes[name]
    ]:
        raise ValueError(
            "The networks of the model or guide have changed since this run was made (first "
            f"'{changed[0]}'): a run keeps its weights, but needs networks of the form that they "
            "had."
        )


class _Handed(Messenger):
    """Hands out the values of parameters by name."""

    def __init__(self, values: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.values = values

    def _pyro_param(self, msg: Message) -> None:
        if msg["name"] in self.values and not msg["done"]:
            value = self.values[msg["name"]].view_as(self.values[msg["name"]])
            value.unconstrained = weakref.ref(value)  # type: ignore[attr-defined]
            msg["value"], msg["done"] = value, True
