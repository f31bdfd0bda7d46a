"""How many particles are run: at once, or one after the other where that cannot be."""

import warnings
from collections.abc import Callable
from typing import Any

import jax
from jax import Array

from dgm_core.structure import LOOP_MESSAGE

__all__: list[str] = []  # for the package, not for users


def map_particles(
    particle: Callable, keys: Array, *mapped: Any, vectorize: bool | None = None
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
