"""Registering the parameters of modules inside models."""

from collections.abc import Mapping
from typing import Any, TypeVar

import equinox as eqx
import jax
import numpyro
from jax import Array
from numpyro.primitives import mutable

from numpyro_dgm.nn.states import Shelf, Stateful

__all__ = ["register"]

M = TypeVar("M", bound=eqx.Module)


def register(name: str, module: M) -> M:
    """Make the parameters of `module` trainable parts of a model or guide; call it there, and use
    the module that it returns.

    Parameters keep their attribute paths below `name`. A second module registered under the same
    name replaces the first, so a new instance never trains weights that an older one left behind. A
    module without parameters is returned as it is. A parameter in two places, as of a layer that is
    used twice, is one; in NumPyro it is known by its array.
    """
    return _with_places(name, _with_parameters(name, module))


def _with_parameters(name: str, module: M) -> M:
    """The module with its weights as one parameter of the program."""
    params, static = eqx.partition(module, eqx.is_inexact_array)
    leaves, structure = jax.tree.flatten(params)
    if not leaves:
        return module
    places: dict[int, int] = {}  # of each array where it comes first
    first = [places.setdefault(id(leaf), index) for index, leaf in enumerate(leaves)]
    own = [
        leaf if place == index else None for index, (leaf, place) in enumerate(zip(leaves, first))
    ]
    initial = jax.tree.unflatten(structure, own)
    value = numpyro.param(f"{name}$params", lambda _: initial, arrays=jax.tree.leaves(initial))
    values = iter(jax.tree.leaves(value))
    found = [None if leaf is None else next(values) for leaf in own]
    return eqx.combine(jax.tree.unflatten(structure, [found[place] for place in first]), static)


def _with_places(name: str, module: M) -> M:
    """The module whose parts find what they keep in one mutable site of the program."""
    start = initial_states(module)
    return with_states(module, mutable(f"{name}$state", start)) if start else module


def initial_states(module: Any) -> dict[str, Any]:
    """What the parts of a module keep before the first step, by their paths."""
    return {path: part.initial_state() for path, part in _keepers(module)}


def _keepers(module: Any) -> list[tuple[str, Any]]:
    """The parts of a module that keep something, with their paths, in its own order."""
    return [
        (jax.tree_util.keystr(path, simple=True, separator="."), part)
        for path, part in jax.tree_util.tree_leaves_with_path(module, is_leaf=_keeps)
        if _keeps(part)
    ]


def with_states(module: M, states: dict[str, Any]) -> M:
    """The module whose parts find what they keep in this dict, by their paths, and leave it
    there.
    """
    running = iter([Shelf(states, path) for path, _ in _keepers(module)])  # dicts come back sorted

    def placed(part: Any) -> Any:
        if not _keeps(part):
            return part
        return eqx.tree_at(
            lambda own: own.running, part, next(running), is_leaf=lambda leaf: leaf is None
        )

    return jax.tree.map(placed, module, is_leaf=_keeps) if states else module


_CONSTANT = "$constant"


class Constant:
    """Numbers that a part of a model or guide has found and does not learn: no optimizer and no
    count of parameters sees them, but they belong to the run, its checkpoints and its file.
    """

    def __init__(self, value: Array) -> None:
        self.value = value

    def stated(self, name: str) -> Array:
        """The numbers, as the run at hand holds them: a deterministic site."""
        return numpyro.deterministic(f"{name}{_CONSTANT}", self.value)


def is_held(site: Mapping[str, Any]) -> bool:
    """Whether a run holds the value of a site beside its parameters: mutable state, constants."""
    constant = site["type"] == "deterministic" and site["name"].endswith(_CONSTANT)
    return constant or site["type"] == "mutable"


Place = tuple[str, int]  # a site, and the number of an array in it


def shared_places(*traces: Mapping[str, Any]) -> dict[Place, Place]:
    """Arrays that a module of another name has brought before, by where they were found first."""
    first: dict[int, Place] = {}
    shared = {}
    for name, site in (item for trace in traces for item in trace.items()):
        for index, leaf in enumerate(site.get("kwargs", {}).get("arrays", ())):
            place = first.setdefault(id(leaf), (name, index))
            if place[0] != name:
                shared[name, index] = place
    return shared


def tied(params: Mapping[str, Any], shared: Mapping[Place, Place]) -> dict[str, Any]:
    """Parameters in which the arrays that modules of two names share are one."""
    result = dict(params)
    for (name, index), (other, where) in shared.items():
        leaves, structure = jax.tree.flatten(result[name])
        leaves[index] = jax.tree.leaves(result[other])[where]
        result[name] = jax.tree.unflatten(structure, leaves)
    return result


def check_tied(params: Mapping[str, Any], shared: Mapping[Place, Place]) -> None:
    """Raises ValueError where modules of two names that share arrays have two sets of weights."""
    for (name, index), (other, where) in shared.items():
        if not {name, other} <= params.keys():
            continue
        leaves = (jax.tree.leaves(params[n])[i] for n, i in ((name, index), (other, where)))
        if next(leaves) is not next(leaves):
            names = sorted(site.removesuffix("$params") for site in (name, other))
            raise ValueError(
                f"The modules registered as {names} share weights, which an engine that holds "
                "parameters by name would train apart: train them by fit, or register what they "
                "share once, under one name, in model and guide."
            )


def _keeps(part: Any) -> bool:
    return isinstance(part, Stateful) and bool(part.initial_state())
