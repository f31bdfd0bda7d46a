"""The assignment of least cost, inside a step that may be compiled."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from dgm_core.assignment import assigned

__all__: list[str] = []  # for the package, not for users


def assignment(costs: Array) -> Array:
    """The column of each row of a square matrix so that the sum of the entries is least, no column
    twice; no gradient passes.

    Cost:
        O(n^3), by scipy, on the processor: 3 ms for n = 256, 60 ms for n = 1024.

    Example:
        >>> assignment(jnp.array([[3.0, 1.0], [1.0, 2.0]]))
        Array([1, 0], dtype=int32)
    """
    shape = jax.ShapeDtypeStruct(costs.shape[:1], jnp.int32)

    def on_host(costs: Array) -> np.ndarray:
        return assigned(np.asarray(costs)).astype(np.int32)

    costs = jax.lax.stop_gradient(costs)
    return jax.pure_callback(on_host, shape, costs, vmap_method="sequential")
