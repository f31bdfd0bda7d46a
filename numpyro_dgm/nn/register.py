"""Registering the parameters of modules inside models."""

from typing import Any, TypeVar

import equinox as eqx
import jax
import numpyro
from numpyro.primitives import mutable

from numpyro_dgm.nn.layers import BatchNorm, RunningStatistics

M = TypeVar("M", bound=eqx.Module)


def register(name: str, module: M) -> M:
    """Make the parameters of `module` trainable parts of a model or guide; call it there, and use
    the module that it returns.

    Parameters keep their attribute paths below `name`. A second module registered under the same
    name replaces the first, so a new instance never trains weights that an older one left behind. A
    module without parameters is returned as it is.
    """
    params, static = eqx.partition(module, eqx.is_inexact_array)
    if not jax.tree.leaves(params):
        return module
    module = eqx.combine(numpyro.param(f"{name}$params", lambda _: params), static)
    norms = {
        jax.tree_util.keystr(path, simple=True, separator="."): part
        for path, part in jax.tree_util.tree_leaves_with_path(module, is_leaf=_is_norm)
        if _is_norm(part)
    }
    if not norms:
        return module
    state = mutable(f"{name}$state", {path: part._initial() for path, part in norms.items()})
    running = iter([RunningStatistics(state, path) for path in norms])
    return jax.tree.map(
        lambda part: (
            eqx.tree_at(
                lambda norm: norm.running, part, next(running), is_leaf=lambda leaf: leaf is None
            )
            if _is_norm(part)
            else part
        ),
        module,
        is_leaf=_is_norm,
    )


def _is_norm(part: Any) -> bool:
    return isinstance(part, BatchNorm)
