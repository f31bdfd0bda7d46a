"""Real data: normal and Student-t likelihoods."""

import equinox as eqx
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array

from numpyro_dgm.nn import Parametric, size_of


class Normal(Parametric):
    """Independent entries with one common scale:  x_i ~ Normal(loc_i(c), scale).

    With a linear decoder this is the likelihood of probabilistic PCA. For one scale per entry, from the context, use `DiagonalNormal`.

    Args: dim, a size or a shape; context_dim (0 = free parameters); scale (None: one learned number, `raw_scale`); min_scale, the smallest learned
        scale; pixelwise, as in `Parametric`.
    Shapes: context (*batch, context_dim) -> batch_shape (*batch,), event_shape (dim,).
    Raises: ValueError if scale is not positive.

    >>> round(Normal(2, scale=1.0)().log_prob(jnp.zeros(2)).item(), 4)
    -1.8379
    """

    fixed_scale: float | None = eqx.field(static=True)
    raw_scale: Array | None

    def __init__(
        self,
        dim: int | tuple[int, ...],
        *,
        context_dim: int = 0,
        scale: float | None = None,
        min_scale: float = 1e-4,
        pixelwise: bool = False,
        key: Array | None = None,
    ) -> None:
        if scale is not None and scale <= 0:
            raise ValueError(f"scale must be positive, or None to learn it, got {scale}.")
        super().__init__(dim, size_of(dim), context_dim=context_dim, pixelwise=pixelwise, floor=min_scale, key=key)
        self.fixed_scale = scale
        self.raw_scale = jnp.zeros(()) if scale is None else None

    def build(self, raw: Array) -> dist.Distribution:
        """The distribution with parameters `raw` (*batch, num_params)."""
        (loc,) = self.split(raw)
        scale = self.fixed_scale if self.raw_scale is None else self.positive(self.raw_scale)
        return dist.Normal(loc, scale).to_event(len(self.event_shape))


class StudentT(Parametric):
    """Independent entries with heavy tails:  x_i ~ StudentT(df_i(c), loc_i(c), scale_i(c)).

    Args: dim, a size or a shape; context_dim (0 = free parameters); df, the degrees of freedom (None: learned, above 1, so that the mean exists);
        min_scale, the smallest scale; pixelwise, as in `Parametric`.
    Shapes: context (*batch, context_dim) -> batch_shape (*batch,), event_shape (dim,).
    Raises: ValueError if df is not positive.

    >>> round(StudentT(2, df=1.0)().log_prob(jnp.zeros(2)).item(), 4)
    -2.2895
    """

    df: float | None = eqx.field(static=True)

    def __init__(
        self,
        dim: int | tuple[int, ...],
        *,
        context_dim: int = 0,
        df: float | None = None,
        min_scale: float = 1e-4,
        pixelwise: bool = False,
        key: Array | None = None,
    ) -> None:
        if df is not None and df <= 0:
            raise ValueError(f"df must be positive, or None to learn it, got {df}.")
        num_params = (3 if df is None else 2) * size_of(dim)
        super().__init__(dim, num_params, context_dim=context_dim, pixelwise=pixelwise, floor=min_scale, key=key)
        self.df = df

    def build(self, raw: Array) -> dist.Distribution:
        """The distribution with parameters `raw` (*batch, num_params)."""
        loc, raw_scale, *raw_df = self.split(raw)
        df = jnp.full_like(loc, self.df) if self.df else 1.0 + self.positive(raw_df[0])
        return dist.StudentT(df, loc, self.positive(raw_scale)).to_event(len(self.event_shape))
