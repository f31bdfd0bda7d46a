"""Real data with heavy tails: the Student t distribution."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array
from numpyro.distributions.util import validate_sample

from dgm_core.arguments import check_fraction, check_number
from dgm_core.contexts import ContextShape
from numpyro_dgm.conditionals.base import Parametric, size_of
from numpyro_dgm.nn.special import digamma_gap, log_beta


class StudentT(Parametric):
    """Independent entries with heavy tails:  x_i ~ StudentT(df_i(c), loc_i(c), scale_i(c)).

    Args:
        dim: a size or a shape.
        context_shape: 0 = free parameters.
        df: the degrees of freedom (None: learned, above 1, so that the mean exists).
        min_scale: the smallest scale.

    Shapes:
        context (*batch, *context_shape) -> batch_shape (*batch,), event_shape (dim,).

    Raises:
        ValueError: if df is not positive.

    Example:
        >>> round(StudentT(2, df=1.0)().log_prob(jnp.zeros(2)).item(), 4)
        -2.2895
    """

    df: float | None = eqx.field(static=True)

    def __init__(
        self,
        dim: int | tuple[int, ...],
        *,
        context_shape: ContextShape = 0,
        df: float | None = None,
        min_scale: float = 1e-4,
        key: Array | None = None,
    ) -> None:
        if df is not None:
            df = check_number("df", df, above=0)
        num_params = (3 if df is None else 2) * size_of(dim)
        super().__init__(
            dim,
            num_params,
            context_shape=context_shape,
            floor=check_fraction("min_scale", min_scale),
            key=key,
        )
        self.df = df

    def build(self, raw: Array) -> dist.Distribution:
        """The distribution with parameters `raw` (*batch, num_params)."""
        loc, raw_scale, *raw_df = self.split(raw)
        df = jnp.full_like(loc, self.df) if self.df else 1.0 + self.positive(raw_df[0])
        return _StudentT(df, loc, self.positive(raw_scale)).to_event(len(self.event_shape))


class _StudentT(dist.StudentT):
    """NumPyro's, for any number of degrees of freedom."""

    @validate_sample
    def log_prob(self, value: Array) -> Array:
        df, half = self.df, jnp.full_like(self.df, 0.5)
        size = abs((value - self.loc) / (self.scale * jnp.sqrt(df)))
        start = log_beta(df / 2, half) + 0.5 * jnp.log(df) + jnp.log(self.scale)
        return -start - 0.5 * (df + 1) * _log1p_square(size)

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        """Normal noise over the root of a chi-square variable, which may round to zero."""
        key_noise, key_spread = jax.random.split(key)
        noise = jax.random.normal(key_noise, (*sample_shape, *self.batch_shape), self.df.dtype)
        spread = dist.Chi2(self.df).sample(key_spread, sample_shape).astype(self.df.dtype)
        return self.loc + self.scale * noise * jnp.sqrt(self.df / jnp.maximum(spread, 1e-36))

    def entropy(self) -> Array:
        h = self.df / 2
        slope = jnp.log1p(0.5 / h) + digamma_gap(h) - digamma_gap(h + 0.5)
        return (
            jnp.log(self.scale)
            + 0.5 * jnp.log(self.df)
            + log_beta(h, jnp.full_like(h, 0.5))
            + (h + 0.5) * slope
        )


def _log1p_square(x: Array) -> Array:
    """log(1 + x^2) for x >= 0, also where x^2 overflows."""
    far = x > 1e8
    near = jnp.log1p(jnp.where(far, 1.0, x) ** 2)
    return jnp.where(far, 2 * jnp.log(jnp.where(far, x, 1.0)), near)
