"""Distributions of continuous vectors, for latent variables above all: used as prior, as posterior and as likelihood.

Raw parameters that are zero give the standard normal distribution; scales have a small floor, so that no density becomes infinite.
"""

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array

from numpyro_dgm.nn import Conditional, Parametric, size_of

__all__ = ["DiagonalNormal", "FullRankNormal", "StandardNormal"]


class StandardNormal(Conditional):
    """The standard normal distribution:  z ~ Normal(0, I).

    Args: dim, a size or a shape; context_dim: a context gives the batch shape and nothing else.
    Shapes: context (*batch, context_dim) -> batch_shape (*batch,), event_shape (dim,).

    >>> StandardNormal(2)().log_prob(jnp.zeros(2))
    Array(-1.837877, dtype=float32)
    """

    def __init__(self, dim: int | tuple[int, ...], *, context_dim: int = 0, key: Array | None = None) -> None:
        super().__init__(dim, context_dim=context_dim)

    def condition(self, context: Array | None) -> dist.Distribution:
        """The distribution given a checked context."""
        batch_shape = () if context is None else context.shape[:-1]
        standard = dist.Normal(jnp.zeros(self.event_shape), jnp.ones(self.event_shape))
        return standard.expand((*batch_shape, *self.event_shape)).to_event(len(self.event_shape))


class DiagonalNormal(Parametric):
    """A normal distribution with independent entries:  z_i ~ Normal(loc_i(c), scale_i(c)).

    Args: dim, a size or a shape; context_dim (0 = free parameters); min_scale, the smallest scale; pixelwise, as in `Parametric`.
    Shapes: context (*batch, context_dim) -> batch_shape (*batch,), event_shape (dim,).

    >>> DiagonalNormal(2)().log_prob(jnp.zeros(2))
    Array(-1.837877, dtype=float32)
    """

    def __init__(
        self,
        dim: int | tuple[int, ...],
        *,
        context_dim: int = 0,
        min_scale: float = 1e-4,
        pixelwise: bool = False,
        key: Array | None = None,
    ) -> None:
        num_params = 2 * size_of(dim)
        super().__init__(dim, num_params, context_dim=context_dim, pixelwise=pixelwise, min_scale=min_scale, key=key)

    def build(self, raw: Array) -> dist.Distribution:
        """The distribution with parameters `raw` (*batch, num_params)."""
        loc, raw_scale = self.split(raw)
        return dist.Normal(loc, self.scale(raw_scale)).to_event(len(self.event_shape))


class FullRankNormal(Parametric):
    """A normal distribution with any covariance:  z ~ Normal(loc(c), L(c) L(c)'),  L lower triangular with a positive diagonal.

    Args: dim (D); context_dim (0 = free parameters); min_scale, the smallest diagonal entry of L.
    Shapes: context (*batch, context_dim) -> batch_shape (*batch,), event_shape (D,).
    Cost: D (D + 3) / 2 parameters per value; log_prob solves one triangular system.

    >>> FullRankNormal(2)().log_prob(jnp.zeros(2))
    Array(-1.837877, dtype=float32)
    """

    def __init__(self, dim: int, *, context_dim: int = 0, min_scale: float = 1e-4, key: Array | None = None) -> None:
        super().__init__(dim, dim * (dim + 3) // 2, context_dim=context_dim, min_scale=min_scale, key=key)

    def build(self, raw: Array) -> dist.Distribution:
        """The distribution with parameters `raw` (*batch, num_params): loc, diagonal of L, L below the diagonal row by row."""
        (dim,) = self.event_shape
        rows, columns = np.tril_indices(dim, -1)
        diagonal = np.arange(dim)
        scale_tril = jnp.zeros((*raw.shape[:-1], dim, dim), raw.dtype)
        scale_tril = scale_tril.at[..., diagonal, diagonal].set(self.scale(raw[..., dim : 2 * dim]))
        scale_tril = scale_tril.at[..., rows, columns].set(raw[..., 2 * dim :])
        return dist.MultivariateNormal(raw[..., :dim], scale_tril=scale_tril)
