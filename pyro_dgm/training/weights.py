"""The weights of a run, apart from those of its model and guide, and put in force for a while."""

import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.poutine import Trace
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import Message
from torch import Tensor, nn

from dgm_core.arguments import shown
from pyro_dgm.compat import own_store, tensor_slots
from pyro_dgm.joints.structure import trace_of
from pyro_dgm.nn.modes import evaluation_mode, meeting, owners
from pyro_dgm.nn.register import settled

__all__ = ["held_by_networks", "in_force"]


def held_by_networks(networks: Sequence[Any]) -> dict[str, Any]:
    """Copies of all that networks hold, parameters and running statistics, by the number of the
    network and the path inside it; empty in NumPyro, where networks hold nothing that changes.
    """
    return {name: slot[key].detach().clone() for name, slot, key in _slots(networks)}


@contextmanager
def networks_met(
    model: Callable, guide: Callable, device: torch.device | None = None
) -> Iterator[list[nn.Module]]:
    """The networks that model and guide are or belong to, and those that are called or registered
    inside this block, each moved to the device before it is used; at its end without those that
    are parts of others.
    """
    found: list[nn.Module] = []

    def met(module: nn.Module) -> None:
        found.append(module)
        if device is not None:
            module.to(device)

    for module in owners(model, guide):
        met(module)
    with meeting(met):
        yield found
    inside = {id(part) for module in found for part in module.modules() if part is not module}
    found[:] = {id(module): module for module in found if id(module) not in inside}.values()


def networks_of(
    model: Callable,
    guide: Callable,
    args: tuple,
    kwargs: Mapping[str, Any],
    device: torch.device | None = None,
) -> list[nn.Module]:
    """The networks that one run of guide and model meets; where it fails, those until then: the
    error will come again.
    """
    with networks_met(model, guide, device) as found, suppress(Exception):
        run_once(model, guide, args, kwargs)
    return found


def run_once(
    model: Callable, guide: Callable, args: tuple, kwargs: Mapping[str, Any]
) -> tuple[Trace, Trace]:
    """The traces of the guide and of the model replayed against it, in evaluation mode; an
    automatic guide sets itself up, everything else is left as it was.
    """
    with (
        torch.no_grad(),
        torch.random.fork_rng(),
        own_store(empty=True),
        pyro.validation_enabled(False),
        evaluation_mode(model, guide),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        guide(*args, **kwargs)
        guide_trace = trace_of(guide, args, kwargs)
        replayed = poutine.replay(model, trace=guide_trace)
        return guide_trace, trace_of(replayed, args, kwargs)


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
            if hasattr(run, "networks"):
                stack.enter_context(_swapped(run))
                known = {id(part) for network in run.networks for part in network.modules()}
                stack.enter_context(meeting(partial(_check_known, known)))
            stack.enter_context(_Handed(run.params))
            stack.callback(settled.reset, settled.set(True))
        yield {}


@contextmanager
def _swapped(run: Any) -> Iterator[None]:
    """The run's tensors in the places of the networks' own."""
    kept: list[tuple[dict, str, Any]] = []
    slots = list(_slots(run.networks))
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


def _slots(networks: Sequence[nn.Module]) -> Iterator[tuple[str, dict[str, Any], str]]:
    """(name, dict, key) of every tensor that the networks hold."""
    for number, module in enumerate(networks):
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


def _check_known(known: set[int], module: nn.Module) -> None:
    """Raises ValueError for a network with weights to train that the fit has not met."""
    if id(module) not in known and any(p.requires_grad for p in module.parameters()):
        raise ValueError(
            f"The model or guide uses a network, {shown(module)}, that it did not use when this "
            "run was made, so that the run has no weights for it: fit again, or evaluate it with "
            "the networks that it was fitted with."
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


def device_of(networks: list[nn.Module]) -> torch.device | None:
    """The device of the first parameter."""
    parameters = (parameter for module in networks for parameter in module.parameters())
    return next((parameter.device for parameter in parameters), None)
