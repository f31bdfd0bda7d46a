"""What a checkpoint holds, to and from `dgm_core.training.checkpoint`: everything that decides how
a run goes on.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from pyro.infer.autoguide import AutoGuide
from pyro.nn import PyroModule
from pyro.optim import PyroOptim
from torch import Tensor, nn

from dgm_core.training import resuming
from dgm_core.training.identity import attributes, loss_parts
from dgm_core.training.trees import flatten, unflatten
from pyro_dgm.compat import MODULE_NOTES, priors_of
from pyro_dgm.losses import Loss

__all__: list[str] = []  # for the package, not for users

_BITS = "bfloat16"  # numpy does not know this type: its bits are kept


def save(folder: Path, tree: Any, header: Mapping[str, Any]) -> None:
    """Write the tensors of a tree and a JSON header to `<folder>/last.npz`.

    Raises:
        CheckpointError: if that cannot be done.
    """
    try:
        arrays = to_arrays(tree)
    except (TypeError, ValueError) as error:
        raise resuming.unsuited(folder, error) from error
    resuming.save(folder, arrays, header)


def to_arrays(tree: Any) -> dict[str, Any]:
    """A tree of tensors, numbers and strings as a checkpoint holds it."""
    return flatten(mapped(tree, _to_numpy))


def from_arrays(arrays: Mapping[str, Any]) -> Any:
    """The tree that `to_arrays` was given."""
    return _to_tensors(unflatten(arrays))


def load(folder: Path, identity: Mapping[str, Any]) -> tuple[Any, dict[str, Any]] | None:
    """The saved tree and header; None where there is no checkpoint.

    Raises:
        CheckpointError: if it belongs to a run with other arguments or cannot be read.
    """
    found = resuming.load(folder, identity)
    return found and (from_arrays(found[0]), found[1])


def identity(arguments: Mapping[str, Any], parameters: Mapping[str, Tensor]) -> dict[str, Any]:
    """What decides the numbers of a run: the arguments of `fit`, and all parameters by shape."""
    described = resuming.identity(arguments, _special)
    return {**described, "parameters": {name: form(x) for name, x in parameters.items()}}


def contents(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Type, shape and hash of each tensor."""
    return {name: resuming.contents(_to_plain(x)) for name, x in tensors.items()}


def form(tensor: Tensor) -> str:
    """Type and shape of a tensor."""
    return f"{tensor.dtype} {tuple(tensor.shape)}".removeprefix("torch.")


def mapped(tree: Any, function: Callable[[Any], Any]) -> Any:
    """A tree of dicts, lists and tuples with `function` applied to its leaves."""
    if isinstance(tree, Mapping):
        return {key: mapped(value, function) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(mapped(value, function) for value in tree)
    return function(tree)


def _special(value: Any, inner: Callable[[Any], Any]) -> Any:
    """What `describe` cannot know of torch and Pyro."""
    if isinstance(value, Tensor):
        return inner(_to_plain(value))
    if isinstance(value, nn.Module):
        return _structure(value, inner)
    if isinstance(value, Loss):
        return loss_parts(value, inner)
    if isinstance(value, PyroOptim):  # the rest of it belongs to the stock engine
        parts = (value.pt_optim_constructor, value.pt_optim_args, value.pt_clip_args)
        return [inner(type(value)), *map(inner, parts)]
    return NotImplemented


def _structure(module: nn.Module, inner: Callable[[Any], Any]) -> dict[str, Any]:
    """A network without the weights that are trained and the state that changes with them."""
    parts = {"type": inner(type(module)), "training": module.training}
    forgotten = MODULE_NOTES | vars(nn.Module()).keys()
    if isinstance(module, AutoGuide):
        forgotten |= {"plates", "prototype_trace"}  # of its first call
    kept = {name: x for name, x in attributes(module).items() if name not in forgotten}
    if isinstance(module, PyroModule):  # priors and constraints of its parameters
        kept |= priors_of(module)
    parts |= {name: inner(part) for name, part in kept.items()}
    for name, weight in module.named_parameters(recurse=False):
        parts[name] = form(weight) if weight.requires_grad else inner(weight)
    for name, buffer in module.named_buffers(recurse=False):
        parts[name] = form(buffer)
    return parts | {name: inner(child) for name, child in module.named_children()}


def _to_plain(tensor: Tensor) -> Any:
    tensor = tensor.detach().cpu()
    return (tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor).numpy()


def _to_numpy(leaf: Any) -> Any:
    if not isinstance(leaf, Tensor):
        return leaf
    return {_BITS: _to_plain(leaf)} if leaf.dtype == torch.bfloat16 else _to_plain(leaf)


def _to_tensors(tree: Any) -> Any:
    if isinstance(tree, dict):
        if list(tree) == [_BITS]:
            return torch.from_numpy(tree[_BITS]).view(torch.bfloat16)
        return {key: _to_tensors(value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(map(_to_tensors, tree))
    return torch.from_numpy(tree.copy()) if hasattr(tree, "dtype") else tree
