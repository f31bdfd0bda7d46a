"""Distances between all pairs of two sets of points, and the check that two sets can be
compared.
"""

import jax.numpy as jnp
from jax import Array
from jax.lax import optimization_barrier, stop_gradient

from numpyro_dgm.losses.formulas import attach_gradient

__all__ = ["as_points", "distances", "squared_distances"]


def as_points(x: Array, y: Array, least: int = 1) -> tuple[Array, Array]:
    """Two samples as rows: (num_x, *event) and (num_y, *event) -> (num_x, dim) and (num_y, dim).

    Raises:
        ValueError: for events of different shapes and for fewer than `least` points.
    """
    if x.ndim == 0 or y.ndim == 0 or x.shape[1:] != y.shape[1:]:
        raise ValueError(
            f"Two samples need shapes (num, *event) with equal events, got {tuple(x.shape)} "
            "and "
            f"{tuple(y.shape)}."
        )
    if min(len(x), len(y)) < least:
        raise ValueError(
            f"This estimate needs at least {least} points of each sample, got {len(x)} and "
            f"{len(y)}."
        )
    return x.reshape(len(x), -1), y.reshape(len(y), -1)


def squared_distances(x: Array, y: Array) -> Array:
    """|x_i - y_j|^2 for points (*batch, num_x, dim) and (*batch, num_y, dim) -> (*batch, num_x,
    num_y).

    By matrix products, quick in many dimensions; exact to rounding at the scale of the points, not
    of their distances: not for roots.
    """
    return jnp.maximum(_by_products(x, y), 0)


def distances(x: Array, y: Array) -> Array:
    """|x_i - y_j| for points (*batch, num_x, dim) and (*batch, num_y, dim) -> (*batch, num_x,
    num_y).

    From differences, exact however close two points are, and with gradient zero where they
    coincide; the gradient comes by matrix products.
    """
    of_x, of_y = optimization_barrier(
        (stop_gradient(x), stop_gradient(y))
    )  # else XLA builds (num_x, num_y, dim) arrays, to share them between calls
    exact = jnp.square(of_x[..., :, None, :] - of_y[..., None, :, :]).sum(-1)
    apart = exact > 0
    return jnp.where(
        apart, jnp.sqrt(jnp.where(apart, attach_gradient(exact, _by_products(x, y)), 1)), 0
    )


def _by_products(x: Array, y: Array) -> Array:
    """|x_i|^2 + |y_j|^2 - 2 x_i y_j, of points that are centered first: no digits are lost to a
    common offset.
    """
    center = stop_gradient(x).mean(-2, keepdims=True)
    x, y = x - center, y - center
    return jnp.square(x).sum(-1)[..., :, None] + jnp.square(y).sum(-1)[..., None, :] - 2 * x @ y.mT
