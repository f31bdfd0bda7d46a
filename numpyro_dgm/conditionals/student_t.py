"""Real data with heavy tails: the Student t distribution."""

import equinox as eqx
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array

from dgm_core.arguments import check_fraction, check_number
from numpyro_dgm.conditionals.base import Parametric, size_of


class StudentT(Parametric):
    """Independent entries with heavy tails:  x_i ~ StudentT(df_i(c), loc_i(c), scale_i(c)).

    Args: dim, a size or a shape; context_dim (0 = free parameters); df, the degrees of freedom
        (None: learned, above 1, so that the mean exists); min_scale, the smallest scale; pixelwise,
        as in `Parametric`.
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
        if df is not None:
            df = check_number("df", df, above=0)
        num_params = (3 if df is None else 2) * size_of(dim)
        super().__init__(
            dim,
            num_params,
            context_dim=context_dim,
            pixelwise=pixelwise,
            floor=check_fraction("min_scale", min_scale),
            key=key,
        )
        self.df = df

    def build(self, raw: Array) -> dist.Distribution:
        """The distribution with parameters `raw` (*batch, num_params)."""
        loc, raw_scale, *raw_df = self.split(raw)
        df = jnp.full_like(loc, self.df) if self.df else 1.0 + self.positive(raw_df[0])
        return dist.StudentT(df, loc, self.positive(raw_scale)).to_event(len(self.event_shape))
