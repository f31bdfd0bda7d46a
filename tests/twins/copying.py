"""Copying weights from a torch module into its Equinox twin, by attribute path: `layers.0.weight`
is `.layers[0].weight`.
"""

from collections.abc import Callable
from functools import reduce
from typing import Any

import equinox as eqx
import jax
import numpy as np
import torch


def leaf_at(path: str) -> Callable[[Any], Any]:
    """A function that finds the leaf with this path in a module."""

    def step(part: Any, name: str) -> Any:
        if name.isdigit():
            return part[int(name)]
        return part[name] if isinstance(part, dict) else getattr(part, name)

    return lambda module: reduce(step, path.split("."), module)


def arrays_of(module: Any) -> dict[str, jax.Array]:
    """The trained arrays of an Equinox module (or of gradients with its structure), by path."""
    leaves = jax.tree_util.tree_leaves_with_path(eqx.filter(module, eqx.is_inexact_array))
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def copy_weights(source: torch.nn.Module, target: Any) -> Any:
    """`target` with the weights of `source`; every parameter must have its counterpart, of the same
    shape, and nothing may be left over.
    """
    weights = {path: parameter.detach().numpy() for path, parameter in source.named_parameters()}
    places = arrays_of(target)
    assert weights.keys() == places.keys(), (
        f"only in one twin: {sorted(weights.keys() ^ places.keys())}"
    )
    for path, weight in weights.items():
        assert weight.shape == places[path].shape, (
            f"{path}: {weight.shape} and {places[path].shape}"
        )
        target = eqx.tree_at(leaf_at(path), target, jax.device_put(weight))
    return target


def shake(module: torch.nn.Module, seed: int = 0, scale: float = 0.3) -> torch.nn.Module:
    """Add normal noise to all parameters, so that none is at a special value (zero, one,
    symmetric).
    """
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += torch.as_tensor(
                scale * rng.standard_normal(parameter.shape), dtype=parameter.dtype
            )
    return module
