"""Weights as layers start with them."""

from math import prod
from typing import Any

import jax
import numpy as np
from jax import Array

__all__: list[str] = []  # for the package, not for users


def uniform_draws(key: Array, shape: tuple[int, ...], limit: float) -> Any:
    """Draws from U(-limit, limit) of this shape: what `jax.random.uniform` gives for the key.

    Outside compiled functions as many as a power of two are drawn and the rest is left, so that
    layers of all sizes share what is compiled, which takes far longer than drawing; what comes is
    then of numpy, so that it can be cut without compiling anything.

    Example:
        >>> rows = uniform_draws(jax.random.key(0), (3, 5), 0.5)
        >>> weight, bias = placed(rows[:, :-1]), placed(rows[:, -1])
        >>> weight.shape, bias.shape
        ((3, 4), (3,))
    """
    count = prod(shape)
    drawn = _uniform(key, 1 << max(count - 1, 0).bit_length(), limit)
    if not isinstance(drawn, jax.core.Tracer):
        drawn = np.asarray(drawn)
    return drawn[:count].reshape(shape)


def placed(x: Any) -> Array:
    """Numbers as an array of JAX. `jnp.asarray` compiles a function for each shape.

    Example:
        >>> placed(np.zeros(3, np.float32))
        Array([0., 0., 0.], dtype=float32)
    """
    return x if isinstance(x, jax.core.Tracer) else jax.device_put(x)


def _draws(key: Array, count: int, limit: float) -> Array:
    return jax.random.uniform(key, (count,), minval=-limit, maxval=limit)


_uniform = jax.jit(_draws, static_argnums=1)
