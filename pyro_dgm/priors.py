"""Distributions of continuous vectors, for latent variables above all: used as prior, as posterior and as likelihood.

Raw parameters that are zero give the standard normal distribution; scales have a small floor, so that no density becomes infinite.
"""

from math import log, pi

import torch
from pyro import distributions as dist
from torch import Tensor

from pyro_dgm.nn import Conditional, Parametric, size_of

__all__ = ["DiagonalNormal", "FullRankNormal", "LowRankNormal", "MixturePrior", "StandardLogistic", "StandardNormal"]


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
        return _StandardNormal(self.loc, self.scale).expand((*batch_shape, *self.event_shape)).to_event(len(self.event_shape))


class _StandardNormal(dist.Normal):
    """Pyro's for mean 0 and scale 1, which its log-density takes for granted: two operations instead of nine, and a training step feels them."""

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
        return torch.addcmul(-0.5 * log(2 * pi) - self.scale.log(), deviation, deviation, value=-0.5)


class StandardLogistic(Conditional):
    """The standard logistic distribution:  z_i ~ Logistic(0, 1), independent, the distribution of logit U for a uniform U.

    The noise under flows that are made of distribution functions, such as `MixtureCDF`.

    Args: dim, a size or a shape; context_dim: a context gives the batch shape and nothing else.
    Shapes: context (*batch, context_dim) -> batch_shape (*batch,), event_shape (dim,).

    >>> round(StandardLogistic(2)().log_prob(torch.zeros(2)).item(), 4)
    -2.7726
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
        return _Logistic(self.loc, self.scale).expand((*batch_shape, *self.event_shape)).to_event(len(self.event_shape))


class _Logistic(dist.Logistic):
    """Pyro's, but for draws that cannot be infinite: the difference of two Gumbel variables."""

    def rsample(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> Tensor:
        waiting = self.loc.new_empty((2, *self._extended_shape(sample_shape))).exponential_().log()
        return self.loc + self.scale * (waiting[0] - waiting[1])


class DiagonalNormal(Parametric):
    """A normal distribution with independent entries:  z_i ~ Normal(loc_i(c), scale_i(c)).

    Args: dim, a size or a shape; context_dim (0 = free parameters); min_scale, the smallest scale; pixelwise, as in `Parametric`.
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
        super().__init__(dim, num_params, context_dim=context_dim, pixelwise=pixelwise, floor=min_scale)

    def build(self, raw: Tensor) -> dist.TorchDistribution:
        """The distribution with parameters `raw` (*batch, num_params)."""
        loc, raw_scale = self.split(raw)
        return _Normal(loc, self.positive(raw_scale)).to_event(len(self.event_shape))


class LowRankNormal(Parametric):
    """A normal distribution whose covariance is a diagonal plus a matrix of low rank:  z ~ Normal(loc(c), S (I + V V') S),  S = diag(scale(c)).

    Args: dim (D); rank (R), the number of columns of V(c); context_dim (0 = free parameters); min_scale, the smallest scale.
    Shapes: context (*batch, context_dim) -> batch_shape (*batch,), event_shape (D,).
    Cost: D (R + 2) parameters per value; log_prob, by the Woodbury identity, R^2 (D + R) operations: only I + V' V is factorised, well
        conditioned however small a scale is.
    Raises: ValueError if rank < 1.

    >>> LowRankNormal(5, 2)().event_shape
    torch.Size([5])
    """

    def __init__(self, dim: int, rank: int, *, context_dim: int = 0, min_scale: float = 1e-4) -> None:
        if rank < 1:
            raise ValueError(f"rank must be at least 1, got {rank}.")

        def initial() -> Tensor:
            return torch.cat([torch.zeros(2 * dim), 0.1 * torch.randn(rank * dim)])  # V = 0 would be a saddle point

        super().__init__(dim, dim * (rank + 2), context_dim=context_dim, floor=min_scale, initial=initial)
        self.rank = rank

    def build(self, raw: Tensor) -> dist.TorchDistribution:
        """The distribution with parameters `raw` (*batch, num_params): loc, scale, the columns of V."""
        loc, raw_scale, *columns = self.split(raw)
        scale = self.positive(raw_scale)
        return dist.LowRankMultivariateNormal(loc, scale[..., None] * torch.stack(columns, -1), scale.square())

    def _sizes(self) -> tuple[str, ...]:
        return (str(self.rank),)


class FullRankNormal(Parametric):
    """A normal distribution with any covariance:  z ~ Normal(loc(c), L L'),  L = diag(scale(c)) (I + N(c)),  N lower triangular without a diagonal.

    Args: dim (D); context_dim (0 = free parameters); min_scale, the smallest scale.
    Shapes: context (*batch, context_dim) -> batch_shape (*batch,), event_shape (D,).
    Cost: D (D + 3) / 2 parameters per value; log_prob solves one triangular system.

    >>> round(FullRankNormal(2)().log_prob(torch.zeros(2)).item(), 4)
    -1.8379
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, dim: int, *, context_dim: int = 0, min_scale: float = 1e-4) -> None:
        super().__init__(dim, dim * (dim + 3) // 2, context_dim=context_dim, floor=min_scale)
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


class MixturePrior(Parametric):
    """A mixture of diagonal normal distributions:  z ~ sum_k w_k(c) Normal(loc_k(c), diag(scale_k(c)^2)).

    Sampling picks a component, so it is not reparameterised: as a posterior it needs the score-function estimator.

    Args: dim (D); num_components (K); context_dim (0 = free parameters); min_scale, the smallest scale.
    Shapes: context (*batch, context_dim) -> batch_shape (*batch,), event_shape (D,).
    Cost: K (2 D + 1) parameters per value; log_prob K diagonal densities.
    Raises: ValueError if num_components < 1.

    >>> MixturePrior(2, 3)
    MixturePrior(2, 3)
    """

    def __init__(self, dim: int, num_components: int = 10, *, context_dim: int = 0, min_scale: float = 1e-3) -> None:
        if num_components < 1:
            raise ValueError(f"num_components must be at least 1, got {num_components}.")
        size = num_components * dim

        def initial() -> Tensor:
            return torch.cat([torch.zeros(num_components), torch.randn(size), torch.zeros(size)])

        super().__init__(dim, num_components + 2 * size, context_dim=context_dim, floor=min_scale, initial=initial)
        self.num_components = num_components

    def build(self, raw: Tensor) -> dist.TorchDistribution:
        """The distribution with parameters `raw` (*batch, num_params): weights, locations and scales, one component after the other."""
        logits = raw[..., : self.num_components]
        loc, raw_scale = raw[..., self.num_components :].unflatten(-1, (2, self.num_components, -1)).unbind(-3)
        components = dist.Normal(loc, self.positive(raw_scale)).to_event(1)
        return dist.MixtureSameFamily(dist.Categorical(logits=logits), components)

    def _sizes(self) -> tuple[str, ...]:
        return (str(self.num_components),)
