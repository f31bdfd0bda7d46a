"""Householder flows: rotations of the noise as products of reflections, which turn a diagonal
covariance into a full one.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

from dgm_core.arguments import check_count
from dgm_core.contexts import ContextShape
from numpyro_dgm.conditionals import Conditional, DiagonalNormal
from numpyro_dgm.flows.context_linear.base import ParametricTransform
from numpyro_dgm.flows.flow import Flow

__all__ = ["Householder", "Reflection"]


def reflect(value: Array, normal: Array) -> Array:
    """value - 2 v (v' value) / (v' v), the mirror image of `value` (*batch, D) in the hyperplane
    with normal v (*batch, D).

    Example:
        >>> reflect(jnp.array([3.0, 4.0]), jnp.array([2.0, 0.0]))
        Array([-3.,  4.], dtype=float32)
    """
    square = (normal**2).sum(-1, keepdims=True).clip(jnp.finfo(normal.dtype).tiny)
    # not a sum of products: compiled into the subtraction that was wrong on large batches
    # (jaxlib 0.10.2, CPU)
    along = jnp.vecdot(normal, value)[..., None]
    return value - (2 * along / square) * normal


def times(row: Array, matrix: Array) -> Array:
    """row' matrix: (*batch, A), (*batch, A, B) -> (*batch, B), in one product where all rows share
    the matrix.

    Example:
        >>> times(jnp.array([1.0, 2.0]), jnp.array([[1.0, 2.0], [5.0, 6.0]]))
        Array([11., 14.], dtype=float32)
    """
    return row @ matrix if matrix.ndim == 2 else (row[..., None, :] @ matrix)[..., 0, :]


def reflections(value: Array, normals: Array) -> Array:
    """H_K ... H_1 value for K reflections at once: value (*batch, D), normals v_1, ..., v_K
    (*batch, K, D).

    With unit normals as the rows of V it is value - V'(L^-1 V value), L = I / 2 + the part of V V'
    below the diagonal: three products instead of K steps.

    References:
        Joffrain et al. (2006), Accumulating Householder transformations, revisited, ACM Trans.
        Math. Softw. 32.

    Example:
        >>> reflections(jnp.array([3.0, 4.0]), jnp.eye(2))
        Array([-3., -4.], dtype=float32)
    """
    units = normals * jax.lax.rsqrt(
        (normals**2).sum(-1, keepdims=True).clip(jnp.finfo(normals.dtype).tiny)
    )
    lower = jnp.tril(units @ units.mT, -1) + jnp.eye(units.shape[-2], dtype=units.dtype) / 2
    along = times(value, units.mT)  # (*batch, K), V value
    if lower.ndim == 2:  # one system for all values, if they share the normals
        solved = jax.scipy.linalg.solve_triangular(
            lower, along.reshape(-1, along.shape[-1]).T, lower=True
        ).T.reshape(along.shape)
    else:
        lower = jnp.broadcast_to(lower, (*along.shape[:-1], *lower.shape[-2:]))
        solved = jax.scipy.linalg.solve_triangular(lower, along[..., None], lower=True)[..., 0]
    return value - times(solved, units)


class Reflection(ParametricTransform):
    """x = (I - 2 v v' / |v|^2) u, with determinant -1, which is its own inverse; v is free or
    linear in the context.

    Args:
        dim: D.
        context_shape: 0 = a free v.

    Shapes:
        u and x (*batch, D), context (*batch, *context_shape).

    Cost:
        4 D operations in each direction.
    """

    def __init__(self, dim: int, *, context_shape: ContextShape = 0, key: Array) -> None:
        dim = check_count("dim", dim)
        super().__init__(dim, context_shape=context_shape, initial_scale=1.0, key=key)

    def forward_and_log_det(self, u: Array, context: Array | None = None) -> tuple[Array, Array]:
        """x = f(u; c) and log |det dx/du|."""
        return reflect(u, self.raw(context)), jnp.zeros((), u.dtype)

    def inverse_and_log_det(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        """u = f^-1(x; c) and log |det du/dx|."""
        return self.forward_and_log_det(x, context)


class Householder(Flow):
    """A product of Householder reflections:  x = H_L ... H_1 u,  H_l = I - 2 v_l v_l' / |v_l|^2,
    v_l linear in the context.

    The base is a diagonal normal distribution also without a context: every reflection of the
    standard normal distribution is the standard normal distribution.

    Args:
        dim: D.
        context_shape: 0 = unconditional.
        num_layers: reflections: D of them give every orthogonal matrix.
        base: as in `Flow`, but by default DiagonalNormal(dim, context_shape=context_shape).

    Shapes:
        context (*batch, *context_shape) -> batch_shape (*batch,), event_shape (D,).

    Cost:
        4 D num_layers operations in each direction; D num_layers parameters per value.

    Raises:
        ValueError: if num_layers < 1.

    References:
        Tomczak & Welling (2016), arXiv:1611.09630.

    Example:
        >>> Householder(4, key=jax.random.key(0))().sample(jax.random.key(1), (5,)).shape
        (5, 4)
    """

    num_layers: int = eqx.field(static=True)

    def __init__(
        self,
        dim: int,
        *,
        context_shape: ContextShape = 0,
        num_layers: int = 8,
        base: Conditional | None = None,
        key: Array,
    ) -> None:
        key_base, *keys = jax.random.split(key, check_count("num_layers", num_layers) + 1)
        reflections = [Reflection(dim, context_shape=context_shape, key=k) for k in keys]
        super().__init__(
            dim,
            reflections,
            context_shape=context_shape,
            base=DiagonalNormal(dim, context_shape=context_shape, key=key_base)
            if base is None
            else base,
        )
        self.num_layers = num_layers

    def _sizes(self) -> tuple[str, ...]:
        return (f"num_layers={self.num_layers}",)
