"""What a checkpoint holds, to and from `dgm_core.training.checkpoint`: everything that decides how
a run goes on.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.optim import _NumPyroOptim

from dgm_core.training import checkpoint
from dgm_core.training.checkpoint import CheckpointError
from dgm_core.training.identity import difference

__all__: list[str] = []  # for the package, not for users


def _save(folder: str | os.PathLike[str], tree: Any, meta: Mapping[str, Any]) -> None:
    """Write the arrays of a tree and a JSON header to `<folder>/last.npz`."""
    checkpoint.save(
        Path(folder) / "last.npz",
        {name: _to_numpy(leaf) for name, leaf in _leaves(tree).items()},
        meta,
    )


def _load(
    folder: str | os.PathLike[str], config: Mapping[str, Any]
) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
    """The saved arrays and the header; None where there is no checkpoint.

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
    return arrays, meta


def _rebuild(arrays: Mapping[str, np.ndarray], like: Any) -> Any:
    """The saved tree, in the form and types of `like`. Raises CheckpointError where it has another
    form.
    """
    leaves = _leaves(like)
    if set(leaves) != set(arrays):
        raise CheckpointError(
            f"The checkpoint holds another state: {sorted(set(leaves) ^ set(arrays))[:3]} "
            "differ. Start afresh with resume=False."
        )
    restored = [_from_numpy(arrays[name], leaf) for name, leaf in leaves.items()]
    return jax.tree.unflatten(jax.tree.structure(like), restored)


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


def _numbers(value: Any, seen: frozenset[int] = frozenset()) -> list[Any]:
    """The numbers and strings that functions have enclosed, in order: what tells optax.adam(0.1)
    from optax.adam(0.2).
    """
    if id(value) in seen:
        return []
    if isinstance(value, (bool, int, float, str)):
        return [value]
    parts: list[Any] = list(value) if isinstance(value, (tuple, list)) else []
    if isinstance(value, _NumPyroOptim):
        parts += vars(value).values()
    if isinstance(value, partial):
        parts += [value.func, value.args, tuple(value.keywords.values())]
    for cell in getattr(value, "__closure__", None) or ():
        with suppress(ValueError):  # an empty cell
            parts.append(cell.cell_contents)
    return [number for part in parts for number in _numbers(part, seen | {id(value)})]


def _shapes(tree: Any) -> Any:
    """Type and shape of each array, as JSON."""
    return [
        f"{np.asarray(leaf).dtype if not hasattr(leaf, 'dtype') else leaf.dtype} {np.shape(leaf)}"
        for leaf in jax.tree.leaves(tree)
    ]


def _leaves(tree: Any) -> dict[str, Any]:
    return {
        jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _to_numpy(leaf: Any) -> np.ndarray:
    array = np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)
    return (
        array.view(f"u{array.dtype.itemsize}") if array.dtype.kind == "V" else array
    )  # bfloat16 and its like are unknown to numpy


def _from_numpy(array: np.ndarray, like: Any) -> Any:
    if _is_key(like):
        return jax.random.wrap_key_data(jnp.asarray(array), impl=jax.random.key_impl(like))
    dtype = like.dtype if hasattr(like, "dtype") else jnp.asarray(like).dtype
    return jax.device_put(array.view(dtype) if dtype.kind == "V" else array)
