"""Linear transforms, which stand between the layers of a flow so that every coordinate meets every
other: scalings, permutations, rotations, any matrix.

Their log-determinants are the same for all values.
"""

from collections.abc import Sequence
from math import prod

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.linalg import expm, solve_triangular

from dgm_core.arguments import check_count, check_permutation, check_shape, refuse
from numpyro_dgm.flows.transform import Transform

__all__ = ["LU", "Diagonal", "Orthogonal", "Permutation"]


class Diagonal(Transform):
    """x_i = exp(s_i) u_i,  log |det dx/du| = sum_i s_i.

    Args:
        dim: D.

    Attributes:
        log_scale: (D,), s.

    Shapes:
        u and x (*batch, D).

    Raises:
        ValueError: if dim < 1.

    References:
        Dinh et al. (2014), arXiv:1410.8516, section 3.3.
    """

    log_scale: Array

    def __init__(self, dim: int) -> None:
        dim = check_count("dim", dim)
        self.log_scale = jnp.zeros(dim)

    def forward_and_log_det(self, u: Array, context: Array | None = None) -> tuple[Array, Array]:
        """x = f(u) and log |det dx/du|."""
        return jnp.exp(self.log_scale) * u, self.log_scale.sum()

    def inverse_and_log_det(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        """u = f^-1(x) and log |det du/dx|."""
        return jnp.exp(-self.log_scale) * x, -self.log_scale.sum()


class Permutation(Transform):
    """x_i = u_{order[i]}: the same entries in another order.

    Args:
        order: a permutation of 0, ..., D - 1.

    Shapes:
        u and x (*batch, D).

    Raises:
        ValueError: if order is no permutation.

    Example:
        >>> Permutation((2, 0, 1)).forward_and_log_det(jnp.array([10.0, 11.0, 12.0]))[0]
        Array([12., 10., 11.], dtype=float32)
    """

    order: tuple[int, ...] = eqx.field(static=True)

    def __init__(self, order: Sequence[int]) -> None:
        order = check_permutation("order", order)
        self.order = tuple(order)

    def forward_and_log_det(self, u: Array, context: Array | None = None) -> tuple[Array, Array]:
        """x = f(u) and log |det dx/du|."""
        return u[..., np.array(self.order)], jnp.zeros((), u.dtype)

    def inverse_and_log_det(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        """u = f^-1(x) and log |det du/dx|."""
        return x[..., np.argsort(self.order)], jnp.zeros((), x.dtype)


class Orthogonal(Transform):
    """A rotation:  x = exp(A) u,  A' = -A,  log |det dx/du| = 0.

    Args:
        dim: D, at least 2.

    Attributes:
        angles: (D (D - 1) / 2,), the entries of A below the diagonal, row by row.
        zero: is the identity.

    Shapes:
        u and x (*batch, D).

    Cost:
        one matrix exponential, D^3 operations, and a product per value.

    Raises:
        ValueError: if dim < 2.

    References:
        Golinski et al. (2019), Improving normalizing flows via better orthogonal parameterizations
        (ICML INNF workshop).
    """

    dim: int = eqx.field(static=True)
    angles: Array

    def __init__(self, dim: int) -> None:
        dim = check_count("dim", dim, 2)
        self.dim = dim
        self.angles = jnp.zeros(dim * (dim - 1) // 2)

    def forward_and_log_det(self, u: Array, context: Array | None = None) -> tuple[Array, Array]:
        """x = f(u) and log |det dx/du|."""
        return u @ self.matrix().T, jnp.zeros((), u.dtype)

    def inverse_and_log_det(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        """u = f^-1(x) and log |det du/dx|."""
        return x @ self.matrix(), jnp.zeros((), x.dtype)

    def matrix(self) -> Array:
        """exp(A) (D, D)."""
        lower = (
            jnp.zeros((self.dim, self.dim), self.angles.dtype)
            .at[np.tril_indices(self.dim, -1)]
            .set(self.angles)
        )
        return expm(lower - lower.T)


class LU(Transform):
    """A linear map with a positive determinant, by its factors:  x = L U u + b,  log |det dx/du| =
    sum_i log U_ii.

    L is lower triangular with ones on its diagonal, U upper triangular with a positive one. Of an
    array (C, height, width) it maps the channels of each pixel: an invertible 1x1 convolution.

    Args:
        dim: the size D of a vector or the shape (C, height, width) of an array, where D = C.

    Attributes:
        weight: (D, D), L below its diagonal, U above it, log U_ii on it.
        bias: (D,). Zero is the identity.

    Shapes:
        u and x (*batch, D) or (*batch, C, height, width).

    Cost:
        one pass: two triangular products in one direction, two triangular systems in the other.

    Raises:
        ValueError: if dim is neither a size nor the shape of an array.

    References:
        Kingma & Dhariwal (2018), arXiv:1807.03039, eqs. (9) to (11); Durkan et al. (2019),
        arXiv:1906.04032, section 3.2.
    """

    channels: int = eqx.field(static=True)
    num_pixels: int = eqx.field(static=True)
    is_image: bool = eqx.field(static=True)
    weight: Array
    bias: Array

    def __init__(self, dim: int | tuple[int, int, int]) -> None:
        shape = check_shape("dim", dim)
        if len(shape) not in (1, 3):
            refuse("dim", "a size of at least 1 or a shape (channels, height, width)", dim)
        self.channels, self.num_pixels = shape[0], prod(shape[1:])
        self.is_image = len(shape) == 3
        self.weight = jnp.zeros((shape[0], shape[0]))
        self.bias = jnp.zeros(shape[0])

    def forward_and_log_det(self, u: Array, context: Array | None = None) -> tuple[Array, Array]:
        """x = f(u) and log |det dx/du|."""
        lower, upper = self.factors()
        u = jnp.moveaxis(u, -3, -1) if self.is_image else u
        x = u @ upper.T @ lower.T + self.bias
        return jnp.moveaxis(x, -1, -3) if self.is_image else x, self._log_det()

    def inverse_and_log_det(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        """u = f^-1(x) and log |det du/dx|."""
        lower, upper = self.factors()
        x = jnp.moveaxis(x, -3, -1) if self.is_image else x
        columns = (x - self.bias).reshape(-1, self.channels).T
        half = solve_triangular(lower, columns, lower=True, unit_diagonal=True)
        u = solve_triangular(upper, half).T.reshape(x.shape)
        return jnp.moveaxis(u, -1, -3) if self.is_image else u, -self._log_det()

    def factors(self) -> tuple[Array, Array]:
        """L and U (D, D)."""
        ones = jnp.eye(self.channels, dtype=self.weight.dtype)
        return jnp.tril(self.weight, -1) + ones, jnp.triu(self.weight, 1) + jnp.diag(
            jnp.exp(jnp.diag(self.weight))
        )

    def _log_det(self) -> Array:
        return self.num_pixels * jnp.diag(self.weight).sum()
