"""Sylvester flows: planar flows with many hidden units in each layer."""

from math import sqrt

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from dgm_core.arguments import check_count
from dgm_core.contexts import ContextShape
from numpyro_dgm.conditionals import Conditional
from numpyro_dgm.flows.context_linear.base import ParametricTransform
from numpyro_dgm.flows.context_linear.householder import reflections, times
from numpyro_dgm.flows.context_linear.planar import unbend
from numpyro_dgm.flows.flow import Flow
from numpyro_dgm.nn.special import sech_squared

__all__ = ["Sylvester", "SylvesterLayer"]


class SylvesterLayer(ParametricTransform):
    """x = u + Q R tanh(S Q'u + b),  log |det dx/du| = sum_i log(1 + R_ii S_ii sech^2((S Q'u +
    b)_i)).

    Q (D, M) has orthonormal columns, the first M of a product of Householder reflections; R and S
    (M, M) are upper triangular, their diagonals in (-1, 1), so that R_ii S_ii > -1. All are free or
    linear in the context (the diagonals by a tanh).

    Args:
        dim: D.
        rank: M, at most D.
        num_reflections: M of them give every Q.
        context_shape: 0 = free parameters.

    Shapes:
        u and x (*batch, D), context (*batch, *context_shape).

    Cost:
        D num_reflections + M (M + 2) parameters; forward 8 D num_reflections + 4 M^2 operations;
        the inverse M root searches in one number, from the last coordinate of Q'u to the first.

    Raises:
        ValueError: if rank is not in [1, dim] or num_reflections < 1.

    References:
        van den Berg et al. (2018), arXiv:1803.05649, eqs. (9) to (16).
    """

    dim: int = eqx.field(static=True)
    rank: int = eqx.field(static=True)
    sizes: tuple[int, ...] = eqx.field(static=True)

    def __init__(
        self,
        dim: int,
        rank: int,
        num_reflections: int,
        *,
        context_shape: ContextShape = 0,
        key: Array,
    ) -> None:
        dim = check_count("dim", dim)
        rank = check_count("rank", rank, most=dim)
        num_reflections = check_count("num_reflections", num_reflections)
        triangle = rank * (rank - 1) // 2
        sizes = (num_reflections * dim, triangle, triangle, rank, rank, rank)
        super().__init__(sum(sizes), context_shape=context_shape, initial_scale=0.3, key=key)
        self.dim, self.rank, self.sizes = dim, rank, sizes

    @property
    def inverse_cost(self) -> str:
        """What `inverse_and_log_det` costs."""
        return f"{self.rank} root searches"

    def forward_and_log_det(self, u: Array, context: Array | None = None) -> tuple[Array, Array]:
        """x = f(u; c) and log |det dx/du|."""
        normals, r, s, b = self._parts(context)
        v = self._into(normals, u)
        return self._moved(u, 1.0, normals, r, s, b, v), _log_det(r, s, b, v)

    def inverse_and_log_det(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        """u = f^-1(x; c) and log |det du/dx|."""
        normals, r, s, b = self._parts(context)
        v = _solve(self._into(normals, x), r, s, b)
        return self._moved(x, -1.0, normals, r, s, b, v), -_log_det(r, s, b, v)

    def _parts(self, context: Array | None) -> tuple[Array, Array, Array, Array]:
        """The normals of the reflections (*batch, num_reflections, D), R and S (*batch, M, M), b
        (*batch, M).
        """
        normals, upper_r, upper_s, diagonal_r, diagonal_s, b = jnp.split(
            self.raw(context), np.cumsum(self.sizes)[:-1], -1
        )
        return (
            normals.reshape(*normals.shape[:-1], -1, self.dim),
            self._triangular(upper_r, diagonal_r),
            self._triangular(upper_s, diagonal_s),
            b,
        )

    def _triangular(self, upper: Array, diagonal: Array) -> Array:
        on = np.arange(self.rank)
        rows, columns = np.triu_indices(self.rank, 1)
        matrix = (
            jnp.zeros((*upper.shape[:-1], self.rank, self.rank), upper.dtype)
            .at[..., rows, columns]
            .set(upper)
        )
        return matrix.at[..., on, on].set(
            sqrt(0.999) * jnp.tanh(diagonal)
        )  # R_ii S_ii > -0.999: a slope of at least 1e-3

    def _into(self, normals: Array, value: Array) -> Array:
        """Q' value: (*batch, D) -> (*batch, M)."""
        return reflections(value, normals)[..., : self.rank]

    def _moved(
        self, value: Array, sign: float, normals: Array, r: Array, s: Array, b: Array, v: Array
    ) -> Array:
        """value + sign Q R tanh(S v + b)."""
        step = times(jnp.tanh(times(v, s.mT) + b), r.mT)
        step = jnp.pad(step, [(0, 0)] * (step.ndim - 1) + [(0, self.dim - self.rank)])
        return value + sign * reflections(step, normals[..., ::-1, :])


def _log_det(r: Array, s: Array, b: Array, v: Array) -> Array:
    slope = sech_squared(times(v, s.mT) + b)
    return jnp.log1p(
        jnp.diagonal(r, axis1=-2, axis2=-1) * jnp.diagonal(s, axis1=-2, axis2=-1) * slope
    ).sum(-1)


def _solve(value: Array, r: Array, s: Array, b: Array) -> Array:
    """v (*batch, M) with v + R tanh(S v + b) = value: coordinate i needs only those after it, which
    come first.
    """
    rank = value.shape[-1]
    batch = jnp.broadcast_shapes(value.shape[:-1], r.shape[:-2])
    on = np.arange(rank)

    def coordinate(
        later: tuple[Array, Array], inputs: tuple[Array, ...]
    ) -> tuple[tuple[Array, Array], None]:
        """One more coordinate; those that are not known yet are zero."""
        v, h = later
        i, target, size, row_r, slope, row_s, shift = inputs
        shift = shift + (row_s * v).sum(-1)
        last = unbend(target - (row_r * h).sum(-1), size, slope, shift)
        return (v.at[..., i].set(last), h.at[..., i].set(jnp.tanh(slope * last + shift))), None

    def by_rows(matrix: Array) -> tuple[Array, Array]:
        """The diagonal, and the rows of what lies above it."""
        return jnp.moveaxis(matrix[..., on, on], -1, 0), jnp.moveaxis(jnp.triu(matrix, 1), -2, 0)

    nothing = jnp.zeros((*batch, rank), value.dtype)
    inputs = (
        jnp.arange(rank),
        jnp.moveaxis(value, -1, 0),
        *by_rows(r),
        *by_rows(s),
        jnp.moveaxis(b, -1, 0),
    )
    return jax.lax.scan(coordinate, (nothing, nothing), inputs, reverse=True)[0][0]


class Sylvester(Flow):
    """A stack of Sylvester layers:  u_l = u_{l-1} + Q_l R_l tanh(S_l Q_l'u_{l-1} + b_l), with
    orthonormal Q_l and upper triangular R_l and S_l.

    With rank = 1 it is a planar flow. Q_l is a product of Householder reflections, which covers the
    orthogonal variant (rank below D) and the Householder variant (rank = D) of the paper.

    Args:
        dim: D.
        rank: M; None: the smaller of D and 16.
        num_reflections: None: M, which give every Q.
        context_shape: 0 = unconditional; else all parameters are functions of the context.
        num_layers: the number of layers.
        base: as in `Flow`.

    Shapes:
        context (*batch, *context_shape) -> batch_shape (*batch,), event_shape (D,).

    Cost:
        a draw and its density (D num_reflections + M (M + 2)) num_layers parameters and as many
        operations, times 8; any other value M num_layers root searches in one number.

    Raises:
        ValueError: if rank is not in [1, dim], num_reflections < 1 or num_layers < 1.

    References:
        van den Berg et al. (2018), arXiv:1803.05649.

    Example:
        >>> Sylvester(4, key=jax.random.key(0))().sample(jax.random.key(1), (5,)).shape
        (5, 4)
    """

    num_layers: int = eqx.field(static=True)
    rank: int = eqx.field(static=True)
    num_reflections: int = eqx.field(static=True)

    def __init__(
        self,
        dim: int,
        *,
        context_shape: ContextShape = 0,
        num_layers: int = 4,
        rank: int | None = None,
        num_reflections: int | None = None,
        base: Conditional | None = None,
        key: Array,
    ) -> None:
        rank = min(check_count("dim", dim), 16) if rank is None else rank
        num_reflections = rank if num_reflections is None else num_reflections
        key_base, *keys = jax.random.split(key, check_count("num_layers", num_layers) + 1)
        layers = [
            SylvesterLayer(dim, rank, num_reflections, context_shape=context_shape, key=k)
            for k in keys
        ]
        super().__init__(dim, layers, context_shape=context_shape, base=base, key=key_base)
        self.num_layers, self.rank, self.num_reflections = num_layers, rank, num_reflections

    def _sizes(self) -> tuple[str, ...]:
        return (
            f"num_layers={self.num_layers}",
            f"rank={self.rank}",
            f"num_reflections={self.num_reflections}",
        )
