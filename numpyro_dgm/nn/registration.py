"""Modules inside models: registering their parameters, and switching them between training and evaluation."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import equinox as eqx
import jax
import numpyro
from numpyro.primitives import mutable

from numpyro_dgm.nn.layers import _EVALUATION, BatchNorm, _Running

M = TypeVar("M", bound=eqx.Module)


def register(name: str, module: M) -> M:
    """Make the parameters of `module` trainable parts of a model or guide; call it there, and use the module that it returns.

    Parameters keep their attribute paths below `name`. A second module registered under the same name replaces the first, so a new instance never
    trains weights that an older one left behind. A module without parameters is returned as it is.
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
    running = iter([_Running(state, path) for path in norms])
    return jax.tree.map(
        lambda part: eqx.tree_at(lambda norm: norm.running, part, next(running), is_leaf=lambda leaf: leaf is None) if _is_norm(part) else part,
        module,
        is_leaf=_is_norm,
    )


@contextmanager
def evaluation_mode(*callables: Callable[..., Any]) -> Iterator[None]:
    """Inside this block the models and guides given run in evaluation: drop-out is off, batch normalisation uses its running statistics.

    Args: the models, guides or networks that are called inside the block.
    Afterwards everything is as it was before.
    """
    token = _EVALUATION.set(True)
    try:
        yield
    finally:
        _EVALUATION.reset(token)


def _is_norm(part: Any) -> bool:
    return isinstance(part, BatchNorm)
