"""Normal distributions whose mean is linear in the context and whose covariance is free."""

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array

from dgm_core.arguments import check_count, check_fraction
from dgm_core.contexts import ContextShape
from numpyro_dgm.conditionals.base import Parametric
from numpyro_dgm.conditionals.multivariate import TypedMultivariateNormal


class LinearNormal(Parametric):
    """A normal distribution of any covariance about a linear mean:  z ~ Normal(W c + b, L L'),  L =
    diag(scale) (I + N),  N lower triangular without a diagonal.

    The transition and the emission of linear-Gaussian models (`Markov`, `KalmanSmoother`); with
    several contexts side by side the mean is linear in each.

    Args:
        dim: D.
        context_shape: of c; 0 = b alone.
        min_scale: the smallest scale.

    Shapes:
        context (*batch, *context_shape) -> batch_shape (*batch,), event_shape (D,).

    Cost:
        D (D + 1) / 2 parameters beside W and b; log_prob solves one triangular system.

    Raises:
        ValueError: if dim < 1 or min_scale is not in [0, 1).

    Example:
        >>> round(LinearNormal(2)().log_prob(jnp.zeros(2)).item(), 4)
        -1.8379
    """

    raw_scale: Array
    below: Array  # N row by row

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
            dim,
            context_shape=context_shape,
            floor=check_fraction("min_scale", min_scale),
            key=key,
        )
        self.raw_scale = jnp.zeros(dim)
        self.below = jnp.zeros(dim * (dim - 1) // 2)

    @property
    def scale_tril(self) -> Array:
        """L (D, D)."""
        (dim,) = self.raw_scale.shape
        unit = jnp.eye(dim, dtype=self.below.dtype).at[np.tril_indices(dim, -1)].set(self.below)
        return self.positive(self.raw_scale)[:, None] * unit

    def build(self, raw: Array) -> dist.Distribution:
        """The distribution with mean `raw` (*batch, D)."""
        return TypedMultivariateNormal(raw, scale_tril=self.scale_tril)
