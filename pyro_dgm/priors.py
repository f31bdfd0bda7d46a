"""Distributions of continuous vectors, for latent variables above all: used as prior, as posterior and as likelihood.

Raw parameters that are zero give the standard normal distribution; scales have a small floor, so that no density becomes infinite.
"""

import torch
from pyro import distributions as dist
from torch import Tensor

from pyro_dgm.nn import Conditional, Parametric, size_of

__all__ = ["DiagonalNormal", "FullRankNormal", "StandardNormal"]


class StandardNormal(Conditional):
    """The standard normal distribution:  z ~ Normal(0, I).

    Args: dim, a size or a shape; context_dim: a context gives the batch shape and nothing else.
    Shapes: context (*batch, context_dim) -> batch_shape (*batch,), event_shape (dim,).

    >>> StandardNormal(2)().log_prob(torch.zeros(2))
    tensor(-1.8379)
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
        return dist.Normal(self.loc, self.scale).expand((*batch_shape, *self.event_shape)).to_event(len(self.event_shape))


class DiagonalNormal(Parametric):
    """A normal distribution with independent entries:  z_i ~ Normal(loc_i(c), scale_i(c)).

    Args: dim, a size or a shape; context_dim (0 = free parameters); min_scale, the smallest scale; pixelwise, as in `Parametric`.
    Shapes: context (*batch, context_dim) -> batch_shape (*batch,), event_shape (dim,).

    >>> DiagonalNormal(2)().log_prob(torch.zeros(2))
    tensor(-1.8379, grad_fn=<SumBackward1>)
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
        super().__init__(dim, num_params, context_dim=context_dim, pixelwise=pixelwise, min_scale=min_scale)

    def build(self, raw: Tensor) -> dist.TorchDistribution:
        """The distribution with parameters `raw` (*batch, num_params)."""
        loc, raw_scale = self.split(raw)
        return dist.Normal(loc, self.scale(raw_scale)).to_event(len(self.event_shape))


class FullRankNormal(Parametric):
    """A normal distribution with any covariance:  z ~ Normal(loc(c), L(c) L(c)'),  L lower triangular with a positive diagonal.

    Args: dim (D); context_dim (0 = free parameters); min_scale, the smallest diagonal entry of L.
    Shapes: context (*batch, context_dim) -> batch_shape (*batch,), event_shape (D,).
    Cost: D (D + 3) / 2 parameters per value; log_prob solves one triangular system.

    >>> FullRankNormal(2)().log_prob(torch.zeros(2))
    tensor(-1.8379, grad_fn=<SubBackward0>)
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, dim: int, *, context_dim: int = 0, min_scale: float = 1e-4) -> None:
        super().__init__(dim, dim * (dim + 3) // 2, context_dim=context_dim, min_scale=min_scale)
        rows, columns = torch.tril_indices(dim, dim, -1)
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("columns", columns, persistent=False)

    def build(self, raw: Tensor) -> dist.TorchDistribution:
        """The distribution with parameters `raw` (*batch, num_params): loc, diagonal of L, L below the diagonal row by row."""
        dim = self.event_shape[0]
        scale_tril = self.scale(raw[..., dim : 2 * dim]).diag_embed()
        scale_tril[..., self.rows, self.columns] = raw[..., 2 * dim :]
        return dist.MultivariateNormal(raw[..., :dim], scale_tril=scale_tril)
