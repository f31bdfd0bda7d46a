"""How many particles are run: at once, or one after the other where that cannot be."""

import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from dgm_core.enumeration import Enumeration
from dgm_core.structure import LOOP_MESSAGE

__all__: list[str] = []  # for the package, not for users


def map_particles(
    particle: Callable, keys: Any, *mapped: Any, vectorize: bool | None = None
) -> Any:
    """What one particle gives, for all of them, leading.

    Args:
        particle: of a key and an entry of each of the mapped trees.
        vectorize: at once (True, by `jax.vmap`), one after the other (False, by `jax.lax.map`), or
            at once if that can be (None).
    """

    def one_by_one() -> Any:
        return jax.lax.map(lambda entries: particle(*entries), (keys, *mapped))

    if vectorize is False:
        return one_by_one()
    try:
        return jax.vmap(particle)(keys, *mapped)
    except Exception as error:  # whatever has no rule for vmap
        if vectorize:
            raise
        try:
            found = one_by_one()
        except Exception:
            raise error from None
        warnings.warn(LOOP_MESSAGE, UserWarning, stacklevel=2)
        return found


def map_values(
    particle: Callable,
    keys: Array,
    enumeration: Enumeration,
    *mapped: Any,
    vectorize: bool | None = None,
) -> Any:
    """What one particle gives, for all enumerated values and draws, leading as `Enumeration` says.

    Args:
        particle: of a key, the numbers of the values by name, and an entry of each mapped tree.
        keys: of the draws. The values of one draw have one key, and under `jax.vmap` the very same
            numbers (equal keys do not give these with every generator).
    """
    num, values = len(keys), enumeration.num_particles // len(keys)
    numbers = {n: jnp.asarray(enumeration.values(n)[::num]) for n in enumeration.sizes}

    def by_draw(x: Array) -> Array:
        return jnp.swapaxes(x.reshape(values, num, *x.shape[1:]), 0, 1)

    def each_value(key: Array, *mapped: Any) -> Any:
        def run(numbers: dict[str, Array], *own: Any) -> Any:
            return particle(key, numbers, *own)

        return map_particles(run, numbers, *mapped, vectorize=vectorize)

    found = map_particles(each_value, keys, *jax.tree.map(by_draw, mapped), vectorize=vectorize)
    return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1).reshape(values * num, *x.shape[2:]), found)


def mean_over_particles(x: Array) -> Array:
    """The mean of real numbers, of others the first."""
    return x.mean(0) if jnp.issubdtype(x.dtype, jnp.inexact) else x[0]
