"""What terms keep from step to step: trees of arrays by the name of the term, such as
`{"JensenShannon(x)": {"critic": ..., "optim": ...}, "RunningMean": {"mean": 0.3}}`.

In Pyro anything with `state_dict` and `load_state_dict` may stand where a tensor may; in NumPyro
all of it is the mutable site STATES of a step.
"""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from pyro_dgm.nn.states import averaged

__all__: list[str] = []  # for losses and training, not for users


def updated(
    stateful: Mapping[str, Any],
    states: dict[str, Any],
    joints: Any,
    step: int | Tensor,
    *,
    left: int | None,
) -> None:
    """Makes the states that are missing, and updates those that have more than `left` updates to go
    (None: no update at all).  Processes that share the batch end with the same states.
    """
    for name, term in stateful.items():
        if name not in states:
            states[name] = detached(term.init_state(joints))
        if left is not None and left < term.num_updates:
            states[name] = _shared(detached(term.update(states[name], joints, step)))


def _shared(state: Any) -> Any:
    """The state, with the means over all processes in place of its real numbers."""
    found = tensors_of(state)
    means = averaged(list(found.values()))
    changed = {
        path: mean
        for (path, old), mean in zip(found.items(), means, strict=True)
        if mean is not None and mean is not old
    }
    return _with_tensors(state, changed) if changed else state


def _with_tensors(state: Any, new: Mapping[str, Tensor], path: str = "") -> Any:
    """The state with other tensors, by their paths; networks are changed in place."""
    if isinstance(state, Tensor):
        return new.get(path, state)
    if isinstance(state, nn.Module):
        with torch.no_grad():
            for name, tensor in tensors_of(state, path).items():
                tensor.copy_(new.get(name, tensor))
        return state
    if isinstance(state, Mapping):
        own = {name: f"{path}.{name}" if path else str(name) for name in state}
        return {name: _with_tensors(part, new, own[name]) for name, part in state.items()}
    return state


def detached(state: Any) -> Any:
    """The state without the graphs of the steps that made it."""
    if isinstance(state, Mapping):
        return {name: detached(part) for name, part in state.items()}
    return state.detach() if isinstance(state, Tensor) else state


def snapshot(state: Any) -> Any:
    """A copy that later steps do not touch, of plain trees: dicts, lists, tensors and numbers.

    Example:
        >>> snapshot({"mean": torch.tensor(2.0)})
        {'mean': tensor(2.)}
    """
    if isinstance(state, Mapping):
        return {name: snapshot(part) for name, part in state.items()}
    if isinstance(state, Tensor):
        return state.detach().clone()
    return deepcopy(state.state_dict() if hasattr(state, "state_dict") else state)


def restored(state: Any, saved: Any) -> Any:
    """The state as it was when `saved` was taken of it: tensors are replaced, networks and
    optimizers changed in place.

    Example:
        >>> restored({"mean": torch.tensor(3.0)}, snapshot({"mean": torch.tensor(2.0)}))
        {'mean': tensor(2.)}
    """
    if isinstance(state, Mapping):
        return {name: restored(part, saved[name]) for name, part in state.items()}
    if isinstance(state, Tensor):
        return saved.detach().clone().to(state)
    if not hasattr(state, "load_state_dict"):
        return deepcopy(saved)
    state.load_state_dict(deepcopy(saved))
    return state


def tensors_of(state: Any, path: str = "") -> dict[str, Tensor]:
    """The tensors of a state by their paths, weights and buffers of its networks among them (those
    of optimizers are not).

    Example:
        >>> tensors_of({"a": {"mean": torch.tensor(2.0)}})
        {'a.mean': tensor(2.)}
    """
    if isinstance(state, Tensor):
        return {path: state}
    if isinstance(state, nn.Module):
        return {
            f"{path}.{name}": tensor
            for name, tensor in (*state.named_parameters(), *state.named_buffers())
        }
    found: dict[str, Tensor] = {}
    for name, part in state.items() if isinstance(state, Mapping) else ():
        found |= tensors_of(part, f"{path}.{name}" if path else str(name))
    return found
