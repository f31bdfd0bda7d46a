"""Normal distributions of vectors whose entries are correlated: low rank, full rank.

Raw parameters that are zero give the standard normal distribution but for the columns of V.
"""

from math import log, pi
from typing import ClassVar

import torch
from pyro import distributions as dist
from pyro.distributions import constraints
from torch import Tensor

from dgm_core.arguments import check_count, check_fraction
from dgm_core.contexts import ContextShape
from pyro_dgm.conditionals.base import Parametric

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
        >>> LowRankNormal(5, 2)().event_shape
        torch.Size([5])
    """

    def __init__(
        self, dim: int, rank: int, *, context_shape: ContextShape = 0, min_scale: float = 1e-4
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
            context_shape=context_shape,
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
        return _LowRankNormal(loc, scale, torch.stack(columns, -1))

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
        >>> round(FullRankNormal(2)().log_prob(torch.zeros(2)).item(), 4)
        -1.8379
    """

    below: Tensor  # the places of N in a matrix, row by row

    def __init__(
        self, dim: int, *, context_shape: ContextShape = 0, min_scale: float = 1e-4
    ) -> None:
        dim = check_count("dim", dim)
        super().__init__(
            dim,
            dim * (dim + 3) // 2,
            context_shape=context_shape,
            floor=check_fraction("min_scale", min_scale),
        )
        rows, columns = torch.tril_indices(dim, dim, -1)
        self.register_buffer("below", rows * dim + columns, persistent=False)

    def build(self, raw: Tensor) -> dist.TorchDistribution:
        """The distribution with parameters `raw` (*batch, num_params): loc, scale, N row by row."""
        (dim,) = self.event_shape
        loc, scale = raw[..., :dim], self.positive(raw[..., dim : 2 * dim])
        matrix = raw.new_zeros(*raw.shape[:-1], dim * dim)
        matrix = matrix.index_copy(-1, self.below, raw[..., 2 * dim :])
        below = matrix.reshape(*raw.shape[:-1], dim, dim)
        return dist.MultivariateNormal(
            loc, scale_tril=scale[..., None] * below + scale.diag_embed()
        )


class _LowRankNormal(dist.TorchDistribution):
    """Normal(loc, S (I + V V') S), scored by a QR factorization of [V; I].

    With y = S^-1 (value - loc), the squared distance is min_w |y - V w|^2 + |w|^2, a sum of squares
    that only the square of an error in w enters; Woodbury's form differences large numbers.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {
        "loc": constraints.real_vector,
        "scale": constraints.independent(constraints.positive, 1),
        "factor": constraints.independent(constraints.real, 2),
    }
    support = constraints.real_vector
    has_rsample = True

    def __init__(
        self, loc: Tensor, scale: Tensor, factor: Tensor, validate_args: bool | None = None
    ) -> None:
        batch_shape = torch.broadcast_shapes(loc.shape[:-1], scale.shape[:-1], factor.shape[:-2])
        self.loc, self.scale = loc.expand(*batch_shape, -1), scale.expand(*batch_shape, -1)
        self.factor = factor.expand(*batch_shape, -1, -1)
        super().__init__(batch_shape, loc.shape[-1:], validate_args=validate_args)

    def expand(self, batch_shape: torch.Size, _instance: None = None) -> "_LowRankNormal":
        parts = (
            self.loc.expand(*batch_shape, -1),
            self.scale.expand(*batch_shape, -1),
            self.factor.expand(*batch_shape, -1, -1),
        )
        return _LowRankNormal(*parts, validate_args=self._validate_args)

    def rsample(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        noise = torch.randn(
            *shape[:-1], sum(self.factor.shape[-2:]), dtype=self.loc.dtype, device=self.loc.device
        )
        own, common = noise.split(self.factor.shape[-2:], -1)
        return self.loc + self.scale * (own + _times(common, self.factor.mT))

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        y = (value - self.loc) / self.scale
        q, r = self._qr()
        along = _times(y, q[..., : y.shape[-1], :])
        if r.ndim == 2:  # one system for all values, if they share the parameters
            w = torch.linalg.solve_triangular(
                r, along.reshape(-1, r.shape[-1]).T, upper=True
            ).T.reshape(along.shape)
        else:
            w = torch.linalg.solve_triangular(r, along[..., None], upper=True)[..., 0]
        squares = (y - _times(w, self.factor.mT)).square().sum(-1) + w.square().sum(-1)
        return -0.5 * (squares + y.shape[-1] * log(2 * pi)) - self._half_log_det(r)

    def entropy(self) -> Tensor:
        return 0.5 * self.loc.shape[-1] * (1 + log(2 * pi)) + self._half_log_det(self._qr()[1])

    def _qr(self) -> tuple[Tensor, Tensor]:
        rank = self.factor.shape[-1]
        ones = torch.eye(rank, dtype=self.factor.dtype, device=self.factor.device).expand(
            *self.batch_shape, -1, -1
        )
        return torch.linalg.qr(torch.cat([self.factor, ones], -2))

    def _half_log_det(self, r: Tensor) -> Tensor:
        return self.scale.log().sum(-1) + r.diagonal(dim1=-2, dim2=-1).abs().log().sum(-1)

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        return self.scale.square() * (1 + self.factor.square().sum(-1))

    @property
    def covariance_matrix(self) -> Tensor:
        loadings = self.scale[..., None] * self.factor
        return loadings @ loadings.mT + self.scale.square().diag_embed()


def _times(row: Tensor, matrix: Tensor) -> Tensor:
    return row @ matrix if matrix.ndim == 2 else (row[..., None, :] @ matrix)[..., 0, :]
