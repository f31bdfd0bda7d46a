"""Normal distributions of vectors whose entries are correlated: low rank, full rank.

Raw parameters that are zero give the standard normal distribution but for the columns of V.
"""

from math import log, pi
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array
from jax.scipy.linalg import solve_triangular
from numpyro.distributions import constraints
from numpyro.distributions.util import validate_sample

from dgm_core.arguments import check_count, check_fraction
from dgm_core.contexts import ContextShape
from numpyro_dgm.conditionals.base import Parametric, required_key

__all__ = ["FullRankNormal", "LowRankNormal"]


class LowRankNormal(Parametric):
    """A normal distribution whose covariance is a diagonal plus a matrix of low rank:  z ~
    Normal(loc(c), S (I + V V') S),  S = diag(scale(c)).

    Args:
        dim: D.
        rank: (R), the number of columns of V(c).
        context_shape: 0 = free parameters.
        min_scale: the smallest scale.

    Shapes:
        context (*batch, *context_shape) -> batch_shape (*batch,), event_shape (D,).

    Cost:
        D (R + 2) parameters per value; log_prob, by a QR factorization, R^2 (D + R) operations; its
        error stays small however small a scale is.

    Raises:
        ValueError: if rank < 1.

    Example:
        >>> LowRankNormal(5, 2, key=jax.random.key(0))().event_shape
        (5,)
    """

    rank: int = eqx.field(static=True)

    def __init__(
        self,
        dim: int,
        rank: int,
        *,
        context_shape: ContextShape = 0,
        min_scale: float = 1e-4,
        key: Array | None = None,
    ) -> None:
        dim = check_count("dim", dim)
        rank = check_count("rank", rank, most=dim)

        def initial() -> Array:
            noise = jax.random.normal(required_key(key, "LowRankNormal"), (rank * dim,))
            return jnp.concatenate(
                [jnp.zeros(2 * dim), 0.1 * noise]
            )  # V = 0 would be a saddle point

        super().__init__(
            dim,
            dim * (rank + 2),
            context_shape=context_shape,
            floor=check_fraction("min_scale", min_scale),
            initial=initial,
            key=key,
        )
        self.rank = rank

    def build(self, raw: Array) -> dist.Distribution:
        """The distribution with parameters `raw` (*batch, num_params): loc, scale, the columns of
        V.
        """
        loc, raw_scale, *columns = self.split(raw)
        scale = self.positive(raw_scale)
        return _LowRankNormal(loc, scale, jnp.stack(columns, -1))

    def _sizes(self) -> tuple[str, ...]:
        return (str(self.rank),)


class FullRankNormal(Parametric):
    """A normal distribution with any covariance:  z ~ Normal(loc(c), L L'),  L = diag(scale(c)) (I
    + N(c)),  N lower triangular without a diagonal.

    Args:
        dim: D.
        context_shape: 0 = free parameters.
        min_scale: the smallest scale.

    Shapes:
        context (*batch, *context_shape) -> batch_shape (*batch,), event_shape (D,).

    Cost:
        D (D + 3) / 2 parameters per value; log_prob solves one triangular system.

    Example:
        >>> round(FullRankNormal(2)().log_prob(jnp.zeros(2)).item(), 4)
        -1.8379
    """

    def __init__(
        self,
        dim: int,
        *,
        context_shape: ContextShape = 0,
        min_scale: float = 1e-4,
        key: Array | None = None,
    ) -> None:
        dim = check_count("dim", dim)
        super().__init__(
            dim,
            dim * (dim + 3) // 2,
            context_shape=context_shape,
            floor=check_fraction("min_scale", min_scale),
            key=key,
        )

    def build(self, raw: Array) -> dist.Distribution:
        """The distribution with parameters `raw` (*batch, num_params): loc, scale, N row by row."""
        (dim,) = self.event_shape
        rows, columns = np.tril_indices(dim, -1)
        loc, scale = raw[..., :dim], self.positive(raw[..., dim : 2 * dim])
        matrix = jnp.broadcast_to(
            jnp.eye(dim, dtype=raw.dtype).reshape(-1), (*raw.shape[:-1], dim * dim)
        )
        unit = matrix.at[..., rows * dim + columns].set(raw[..., 2 * dim :])
        scale_tril = scale[..., None] * unit.reshape(*raw.shape[:-1], dim, dim)
        return TypedMultivariateNormal(loc, scale_tril=scale_tril)


class TypedMultivariateNormal(dist.MultivariateNormal):
    """NumPyro's, with draws of the type of its parameters, and an entropy for each datum."""

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        return super().sample(key, sample_shape).astype(self.loc.dtype)

    def entropy(self) -> Array:
        return jnp.broadcast_to(super().entropy(), self.batch_shape)


class _LowRankNormal(dist.Distribution):
    """Normal(loc, S (I + V V') S), scored by a QR factorization of [V; I].

    With y = S^-1 (value - loc), the squared distance is min_w |y - V w|^2 + |w|^2, a sum of squares
    that only the square of an error in w enters; Woodbury's form differences large numbers.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {
        "loc": constraints.real_vector,
        "scale": constraints.independent(constraints.positive, 1),
        "factor": constraints.independent(constraints.real, 2),
    }
    support = constraints.real_vector
    reparametrized_params: ClassVar[list[str]] = ["loc", "scale", "factor"]

    def __init__(
        self, loc: Array, scale: Array, factor: Array, *, validate_args: bool | None = None
    ) -> None:
        batch_shape = jnp.broadcast_shapes(loc.shape[:-1], scale.shape[:-1], factor.shape[:-2])
        self.loc, self.scale = (
            jnp.broadcast_to(x, (*batch_shape, x.shape[-1])) for x in (loc, scale)
        )
        self.factor = jnp.broadcast_to(factor, (*batch_shape, *factor.shape[-2:]))
        super().__init__(batch_shape, loc.shape[-1:], validate_args=validate_args)

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        dim, rank = self.factor.shape[-2:]
        noise = jax.random.normal(
            key, (*sample_shape, *self.batch_shape, dim + rank), self.loc.dtype
        )
        return self.loc + self.scale * (noise[..., :dim] + _times(noise[..., dim:], self.factor.mT))

    @validate_sample
    def log_prob(self, value: Array) -> Array:
        y = (value - self.loc) / self.scale
        q, r = self._qr()
        along = _times(y, q[..., : y.shape[-1], :])
        if r.ndim == 2:  # one system for all values, if they share the parameters
            w = solve_triangular(r, along.reshape(-1, along.shape[-1]).T).T.reshape(along.shape)
        else:
            w = solve_triangular(
                jnp.broadcast_to(r, (*along.shape, along.shape[-1])), along[..., None]
            )[..., 0]
        squares = ((y - _times(w, self.factor.mT)) ** 2).sum(-1) + (w**2).sum(-1)
        return -0.5 * (squares + y.shape[-1] * log(2 * pi)) - self._half_log_det(r)

    def entropy(self) -> Array:
        return 0.5 * self.loc.shape[-1] * (1 + log(2 * pi)) + self._half_log_det(self._qr()[1])

    def _qr(self) -> tuple[Array, Array]:
        rank = self.factor.shape[-1]
        ones = jnp.broadcast_to(
            jnp.eye(rank, dtype=self.factor.dtype), (*self.batch_shape, rank, rank)
        )
        return jnp.linalg.qr(jnp.concatenate([self.factor, ones], -2))

    def _half_log_det(self, r: Array) -> Array:
        return jnp.log(self.scale).sum(-1) + jnp.log(abs(jnp.diagonal(r, axis1=-2, axis2=-1))).sum(
            -1
        )

    @property
    def mean(self) -> Array:
        return self.loc

    @property
    def variance(self) -> Array:
        return self.scale**2 * (1 + (self.factor**2).sum(-1))

    @property
    def covariance_matrix(self) -> Array:
        loadings = self.scale[..., None] * self.factor
        return loadings @ loadings.mT + self.scale[..., None] ** 2 * jnp.eye(self.scale.shape[-1])


def _times(row: Array, matrix: Array) -> Array:
    return row @ matrix if matrix.ndim == 2 else (row[..., None, :] @ matrix)[..., 0, :]
