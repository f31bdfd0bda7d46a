"""Normal distributions: standard, with one scale, diagonal, low rank, full rank.

Raw parameters that are zero give the standard normal distribution; scales have a small floor, so
that no density becomes infinite.
"""

from math import log, pi

import torch
from pyro import distributions as dist
from torch import Tensor, nn

from dgm_core.arguments import check_count, check_fraction, check_number
from pyro_dgm.conditionals.base import Conditional, Parametric, size_of


class StandardNormal(Conditional):
    """The standard normal distribution:  z ~ Normal(0, I).

    Args: dim, a size or a shape; context_dim: a context gives the batch shape and nothing else.
    Shapes: context (*batch, context_dim) -> batch_shape (*batch,), event_shape (dim,).

    >>> round(StandardNormal(2)().log_prob(torch.zeros(2)).item(), 4)
    -1.8379
    """

    loc: Tensor
    scale: Tensor

    def __init__(self, dim: int | tuple[int, ...], *, context_dim: int = 0) -> None:
        super().__init__(dim, context_dim=context_dim)
        self.register_buffer("loc", torch.zeros(self.event_shape), persistent=False)
        self.register_buffer("scale", torch.ones(self.event_shape), persistent=False)

    def condition(self, context: Tensor | None) -> dist.TorchDistribution:
        """The distribution given a checked context."""
        batch_shape = () if context is None else context.shape[:-1]
        return (
            _StandardNormal(self.loc, self.scale)
            .expand((*batch_shape, *self.event_shape))
            .to_event(len(self.event_shape))
        )


class _StandardNormal(dist.Normal):
    """Pyro's for mean 0 and scale 1, which its log-density takes for granted: two operations
    instead of nine, and a training step feels them.
    """

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        return torch.addcmul(self.loc - 0.5 * log(2 * pi), value, value, value=-0.5)


class _Normal(dist.Normal):
    """Pyro's, with a log-density in five operations instead of nine."""

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        deviation = (value - self.loc) / self.scale
        return torch.addcmul(
            -0.5 * log(2 * pi) - self.scale.log(), deviation, deviation, value=-0.5
        )


class Normal(Parametric):
    """Independent entries with one common scale:  x_i ~ Normal(loc_i(c), scale).

    With a linear decoder this is the likelihood of probabilistic PCA. For one scale per entry, from
    the context, use `DiagonalNormal`.

    Args: dim, a size or a shape; context_dim (0 = free parameters); scale (None: one learned
        number, `raw_scale`); min_scale, the smallest learned scale; pixelwise, as in `Parametric`.
    Shapes: context (*batch, context_dim) -> batch_shape (*batch,), event_shape (dim,).
    Raises: ValueError if scale is not positive.

    >>> round(Normal(2, scale=1.0)().log_prob(torch.zeros(2)).item(), 4)
    -1.8379
    """

    def __init__(
        self,
        dim: int | tuple[int, ...],
        *,
        context_dim: int = 0,
        scale: float | None = None,
        min_scale: float = 1e-4,
        pixelwise: bool = False,
    ) -> None:
        if scale is not None:
            scale = check_number("scale", scale, above=0)
        super().__init__(
            dim,
            size_of(dim),
            context_dim=context_dim,
            pixelwise=pixelwise,
            floor=check_fraction("min_scale", min_scale),
        )
        self.fixed_scale = scale
        self.raw_scale = nn.Parameter(torch.zeros(())) if scale is None else None

    def build(self, raw: Tensor) -> dist.TorchDistribution:
        """The distribution with parameters `raw` (*batch, num_params)."""
        (loc,) = self.split(raw)
        scale = self.fixed_scale if self.raw_scale is None else self.positive(self.raw_scale)
        return dist.Normal(loc, scale).to_event(len(self.event_shape))


class DiagonalNormal(Parametric):
    """A normal distribution with independent entries:  z_i ~ Normal(loc_i(c), scale_i(c)).

    Args: dim, a size or a shape; context_dim (0 = free parameters); min_scale, the smallest scale;
        pixelwise, as in `Parametric`.
    Shapes: context (*batch, context_dim) -> batch_shape (*batch,), event_shape (dim,).

    >>> round(DiagonalNormal(2)().log_prob(torch.zeros(2)).item(), 4)
    -1.8379
    """

    def __init__(
        self,
        dim: int | tuple[int, ...],
        *,
        context_dim: int = 0,
        min_scale: float = 1e-4,
        pixelwise: bool = False,
    ) -> None:
        num_params = 2 * size_of(dim)
        super().__init__(
            dim,
            num_params,
            context_dim=context_dim,
            pixelwise=pixelwise,
            floor=check_fraction("min_scale", min_scale),
        )

    def build(self, raw: Tensor) -> dist.TorchDistribution:
        """The distribution with parameters `raw` (*batch, num_params)."""
        loc, raw_scale = self.split(raw)
        return _Normal(loc, self.positive(raw_scale)).to_event(len(self.event_shape))


class LowRankNormal(Parametric):
    """A normal distribution whose covariance is a diagonal plus a matrix of low rank:  z ~
    Normal(loc(c), S (I + V V') S),  S = diag(scale(c)).

    Args: dim (D); rank (R), the number of columns of V(c); context_dim (0 = free parameters);
        min_scale, the smallest scale.
    Shapes: context (*batch, context_dim) -> batch_shape (*batch,), event_shape (D,).
    Cost: D (R + 2) parameters per value; log_prob, by the Woodbury identity, R^2 (D + R)
        operations: only I + V' V is factorised, well conditioned however small a scale is.
    Raises: ValueError if rank < 1.

    >>> LowRankNormal(5, 2)().event_shape
    torch.Size([5])
    """

    def __init__(
        self, dim: int, rank: int, *, context_dim: int = 0, min_scale: float = 1e-4
    ) -> None:
        dim = check_count("dim", dim)
        rank = check_count("rank", rank, most=dim)

        def initial() -> Tensor:
            return torch.cat(
                [torch.zeros(2 * dim), 0.1 * torch.randn(rank * dim)]
            )  # V = 0 would be a saddle point

        super().__init__(
            dim,
            dim * (rank + 2),
            context_dim=context_dim,
            floor=check_fraction("min_scale", min_scale),
            initial=initial,
        )
        self.rank = rank

    def build(self, raw: Tensor) -> dist.TorchDistribution:
        """The distribution with parameters `raw` (*batch, num_params): loc, scale, the columns of
        V.
        """
        loc, raw_scale, *columns = self.split(raw)
        scale = self.positive(raw_scale)
        return dist.LowRankMultivariateNormal(
            loc, scale[..., None] * torch.stack(columns, -1), scale.square()
        )

    def _sizes(self) -> tuple[str, ...]:
        return (str(self.rank),)


class FullRankNormal(Parametric):
    """A normal distribution with any covariance:  z ~ Normal(loc(c), L L'),  L = diag(scale(c)) (I
    + N(c)),  N lower triangular without a diagonal.

    Args: dim (D); context_dim (0 = free parameters); min_scale, the smallest scale.
    Shapes: context (*batch, context_dim) -> batch_shape (*batch,), event_shape (D,).
    Cost: D (D + 3) / 2 parameters per value; log_prob solves one triangular system.

    >>> round(FullRankNormal(2)().log_prob(torch.zeros(2)).item(), 4)
    -1.8379
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, dim: int, *, context_dim: int = 0, min_scale: float = 1e-4) -> None:
        dim = check_count("dim", dim)
        super().__init__(
            dim,
            dim * (dim + 3) // 2,
            context_dim=context_dim,
            floor=check_fraction("min_scale", min_scale),
        )
        rows, columns = torch.tril_indices(dim, dim, -1)
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("columns", columns, persistent=False)

    def build(self, raw: Tensor) -> dist.TorchDistribution:
        """The distribution with parameters `raw` (*batch, num_params): loc, scale, N row by row."""
        (dim,) = self.event_shape
        loc, scale = raw[..., :dim], self.positive(raw[..., dim : 2 * dim])
        scale_tril = scale.diag_embed()
        scale_tril[..., self.rows, self.columns] = scale[..., self.rows] * raw[..., 2 * dim :]
        return dist.MultivariateNormal(loc, scale_tril=scale_tril)
