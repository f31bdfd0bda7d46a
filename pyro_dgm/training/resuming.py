"""What a checkpoint holds, to and from `dgm_core.training.checkpoint`: everything that decides how
a run goes on.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dgm_core.training import checkpoint
from dgm_core.training.checkpoint import CheckpointError
from dgm_core.training.identity import difference

__all__: list[str] = []  # for the package, not for users


def _save(folder: str | os.PathLike[str], tree: Any, meta: Mapping[str, Any]) -> None:
    """Write the tensors of a tree and a JSON header to `<folder>/last.npz`."""
    checkpoint.save(Path(folder) / "last.npz", checkpoint.flatten(_mapped(tree, _to_numpy)), meta)


def _load(
    folder: str | os.PathLike[str], config: Mapping[str, Any]
) -> tuple[Any, dict[str, Any]] | None:
    """The saved tree and header; None where there is no checkpoint.

    Raises: CheckpointError if it belongs to a run with other arguments or cannot be read.
    """
    path = Path(folder) / "last.npz"
    if not checkpoint.exists(path):
        return None
    arrays, meta = checkpoint.load(path)
    there, here = meta.get("config", {}), _identity(config)
    if changed := difference(there, here):
        details = "; ".join(
            f"{name} was {there.get(name)!r} and is {here.get(name)!r}" for name in changed
        )
        raise CheckpointError(
            f"{path} belongs to a run with other arguments: {details}. Call fit with the same "
            "ones, choose another folder, or start afresh with resume=False."
        )
    return _mapped(checkpoint.unflatten(arrays), _to_tensor), meta


def _identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a configuration that decides the numbers: with another one a run cannot go on."""
    free = (
        "num_epochs",
        "num_steps",
        "patience",
        "callbacks",
        "checkpoint",
        "resume",
        "checkpoint_every",
        "progress",
        "device",
        "seen",
    )
    return {name: value for name, value in config.items() if name not in free}


def _shapes(tree: Any) -> Any:
    """Type and shape of each array, as JSON."""

    def outline(leaf: Any) -> str:
        kind = str(getattr(leaf, "dtype", type(leaf).__name__)).removeprefix("torch.")
        return f"{kind} {tuple(getattr(leaf, 'shape', ()))}"

    return _mapped(tree, outline)


def _mapped(tree: Any, function: Any) -> Any:
    """A tree of dicts, lists and tuples with `function` applied to its leaves."""
    if isinstance(tree, Mapping):
        return {key: _mapped(value, function) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(_mapped(value, function) for value in tree)
    return function(tree)


def _to_numpy(leaf: Any) -> Any:
    return leaf.detach().cpu().numpy() if isinstance(leaf, Tensor) else leaf


def _to_tensor(leaf: Any) -> Any:
    return torch.from_numpy(leaf.copy()) if hasattr(leaf, "dtype") else leaf
