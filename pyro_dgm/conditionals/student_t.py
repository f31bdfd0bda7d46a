"""Real data with heavy tails: the Student t distribution."""

import torch
from pyro import distributions as dist
from torch import Tensor

from dgm_core.arguments import check_fraction, check_number
from dgm_core.contexts import ContextShape
from pyro_dgm.conditionals.base import Parametric, size_of
from pyro_dgm.nn.special import digamma_gap, log_beta


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
        >>> round(StudentT(2, df=1.0)().log_prob(torch.zeros(2)).item(), 4)
        -2.2895
    """

    def __init__(
        self,
        dim: int | tuple[int, ...],
        *,
        context_shape: ContextShape = 0,
        df: float | None = None,
        min_scale: float = 1e-4,
    ) -> None:
        if df is not None:
            df = check_number("df", df, above=0)
        num_params = (3 if df is None else 2) * size_of(dim)
        super().__init__(
            dim,
            num_params,
            context_shape=context_shape,
            floor=check_fraction("min_scale", min_scale),
        )
        self.df = df

    def build(self, raw: Tensor) -> dist.TorchDistribution:
        """The distribution with parameters `raw` (*batch, num_params)."""
        loc, raw_scale, *raw_df = self.split(raw)
        df = torch.full_like(loc, self.df) if self.df else 1.0 + self.positive(raw_df[0])
        return _StudentT(df, loc, self.positive(raw_scale)).to_event(len(self.event_shape))


class _StudentT(dist.StudentT):
    """Pyro's, for any number of degrees of freedom."""

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        df, half = self.df, torch.full_like(self.df, 0.5)
        size = ((value - self.loc) / (self.scale * df.sqrt())).abs()
        start = log_beta(df / 2, half) + 0.5 * df.log() + self.scale.log()
        return -start - 0.5 * (df + 1) * _log1p_square(size)

    def rsample(self, sample_shape: tuple[int, ...] = ()) -> Tensor:
        """Normal noise over the root of a chi-square variable, which may round to zero."""
        shape = self._extended_shape(torch.Size(sample_shape))
        noise = torch.randn(shape, dtype=self.df.dtype, device=self.df.device)
        spread = dist.Chi2(self.df).rsample(torch.Size(sample_shape)).clamp(min=1e-36)
        return self.loc + self.scale * noise * torch.sqrt(self.df / spread)

    def entropy(self) -> Tensor:
        h = self.df / 2
        slope = torch.log1p(0.5 / h) + digamma_gap(h) - digamma_gap(h + 0.5)
        return (
            self.scale.log()
            + 0.5 * self.df.log()
            + log_beta(h, torch.full_like(h, 0.5))
            + (h + 0.5) * slope
        )


def _log1p_square(x: Tensor) -> Tensor:
    """log(1 + x^2) for x >= 0, also where x^2 overflows."""
    far = x > 1e8
    near = torch.log1p(torch.where(far, 1.0, x).square())
    return torch.where(far, 2 * torch.where(far, x, 1.0).log(), near)
