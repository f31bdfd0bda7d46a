"""What a checkpoint holds, to and from `dgm_core.training.checkpoint`: everything that decides how
a run goes on.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from numpyro.infer.autoguide import AutoGuide

from dgm_core.training import resuming
from dgm_core.training.identity import attributes, loss_parts
from numpyro_dgm.losses import Loss

__all__: list[str] = []  # for the package, not for users


def save(folder: Path, tree: Any, header: Mapping[str, Any]) -> None:
    """Write the arrays of a tree and a JSON header to `<folder>/last.npz`.

    Raises:
        CheckpointError: if that cannot be done.
    """
    arrays = {name: to_numpy(leaf) for name, leaf in _leaves(tree).items()}
    resuming.save(folder, arrays, header)


def load(
    folder: Path, identity: Mapping[str, Any]
) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
    """The saved arrays and the header; None where there is no checkpoint.

    Raises:
        CheckpointError: if it belongs to a run with other arguments or cannot be read.
    """
    return resuming.load(folder, identity)


def rebuilt(arrays: Mapping[str, np.ndarray], like: Any) -> Any:
    """The saved tree, in the form and types of `like`.

    Raises:
        CheckpointError: where it has another form.
    """
    leaves = _leaves(like)
    plain = {name: to_numpy(leaf) for name, leaf in leaves.items()}
    resuming.fitting(arrays, plain, form)
    restored = [from_numpy(arrays[name], leaf) for name, leaf in leaves.items()]
    return jax.tree.unflatten(jax.tree.structure(like), restored)


def identity(arguments: Mapping[str, Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """What decides the numbers of a run: the arguments of `fit`, and all parameters by shape."""
    described = resuming.identity(arguments, _special)
    shapes = {name: [form(x) for x in jax.tree.leaves(tree)] for name, tree in parameters.items()}
    return {**described, "parameters": shapes}


def form(array: Any) -> str:
    """Type and shape of an array."""
    return f"{array.dtype} {np.shape(array)}"


def _special(value: Any, inner: Callable[[Any], Any]) -> Any:
    """What `describe` cannot know of JAX and Equinox."""
    if _is_key(value):
        return inner(np.asarray(jax.random.key_data(value)))
    owner = getattr(value, "__self__", None)
    if isinstance(value, eqx.Module) and owner is not None:  # one of its methods
        return {"method": inner(getattr(value, "__func__", None)), "of": inner(owner)}
    if isinstance(value, eqx.Module):  # weights are learned, or come from a checkpoint
        weightless = jax.tree.map(lambda x: form(x) if eqx.is_inexact_array(x) else x, value)
        parts = {name: inner(part) for name, part in vars(weightless).items()}
        return {"type": inner(type(value)), **parts}
    if isinstance(value, Loss):
        return loss_parts(value, inner)
    if isinstance(value, AutoGuide):  # without the run in which it found the latent sites
        parts = {k: inner(x) for k, x in attributes(value).items() if k != "prototype_trace"}
        return {"type": inner(type(value)), **parts}
    return NotImplemented


def _leaves(tree: Any) -> dict[str, Any]:
    return {
        jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def to_numpy(leaf: Any) -> np.ndarray:
    """An array that a file can hold: keys as their data, types unknown to numpy as their bits."""
    array = np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)
    return array.view(f"u{array.dtype.itemsize}") if array.dtype.kind == "V" else array


def from_numpy(array: np.ndarray, like: Any) -> Any:
    """What `to_numpy` was given, of the type of `like`."""
    if _is_key(like):
        return jax.random.wrap_key_data(jnp.asarray(array), impl=jax.random.key_impl(like))
    dtype = like.dtype if hasattr(like, "dtype") else jnp.asarray(like).dtype
    return jax.device_put(array.view(dtype) if dtype.kind == "V" else array)
