"""Normal distributions: standard, with one scale, diagonal, low rank, full rank.

Raw parameters that are zero give the standard normal distribution; scales have a small floor, so
that no density becomes infinite.
"""

from math import log, pi
from typing import Any

import torch
from pyro import distributions as dist
from torch import Tensor, nn

from dgm_core.arguments import check_fraction, check_number
from dgm_core.contexts import ContextShape
from pyro_dgm.conditionals.base import Conditional, Parametric, size_of
from pyro_dgm.nn.contexts import batch_shape_of

__all__ = ["DiagonalNormal", "Normal", "StandardNormal"]


class StandardNormal(Conditional):
    """The standard normal distribution:  z ~ Normal(0, I).

    Args:
        dim: a size or a shape.
        context_shape: a context gives the batch shape and nothing else.

    Shapes:
        context (*batch, *context_shape) -> batch_shape (*batch,), event_shape (dim,).

    Example:
        >>> round(StandardNormal(2)().log_prob(torch.zeros(2)).item(), 4)
        -1.8379
    """

    loc: Tensor
    scale: Tensor

    def __init__(self, dim: int | tuple[int, ...], *, context_shape: ContextShape = 0) -> None:
        super().__init__(dim, context_shape=context_shape)
        self.register_buffer("loc", torch.zeros(self.event_shape), persistent=False)
        self.register_buffer("scale", torch.ones(self.event_shape), persistent=False)

    def condition(self, context: Any) -> dist.TorchDistribution:
        """The distribution given a checked context."""
        batch_shape = batch_shape_of(context, self.context_shape)
        entries = _StandardNormal(self.loc, self.scale)
        if batch_shape:
            entries = entries.expand((*batch_shape, *self.event_shape))
        return entries.to_event(len(self.event_shape))


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

    Args:
        dim: a size or a shape.
        context_shape: 0 = free parameters.
        scale: None: one learned number, `raw_scale`.
        min_scale: the smallest learned scale.

    Shapes:
        context (*batch, *context_shape) -> batch_shape (*batch,), event_shape (dim,).

    Raises:
        ValueError: if scale is not positive.

    Example:
        >>> round(Normal(2, scale=1.0)().log_prob(torch.zeros(2)).item(), 4)
        -1.8379
    """

    def __init__(
        self,
        dim: int | tuple[int, ...],
        *,
        context_shape: ContextShape = 0,
        scale: float | None = None,
        min_scale: float = 1e-4,
    ) -> None:
        if scale is not None:
            scale = check_number("scale", scale, above=0)
        super().__init__(
            dim,
            size_of(dim),
            context_shape=context_shape,
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

    Args:
        dim: a size or a shape.
        context_shape: 0 = free parameters.
        min_scale: the smallest scale.

    Shapes:
        context (*batch, *context_shape) -> batch_shape (*batch,), event_shape (dim,).

    Example:
        >>> round(DiagonalNormal(2)().log_prob(torch.zeros(2)).item(), 4)
        -1.8379
    """

    def __init__(
        self,
        dim: int | tuple[int, ...],
        *,
        context_shape: ContextShape = 0,
        min_scale: float = 1e-4,
    ) -> None:
        num_params = 2 * size_of(dim)
        super().__init__(
            dim,
            num_params,
            context_shape=context_shape,
            floor=check_fraction("min_scale", min_scale),
        )

    def build(self, raw: Tensor) -> dist.TorchDistribution:
        """The distribution with parameters `raw` (*batch, num_params)."""
        return _Normal(*self.loc_and_scale(raw)).to_event(len(self.event_shape))
