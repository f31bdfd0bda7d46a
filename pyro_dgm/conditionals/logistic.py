"""The standard logistic distribution."""

from typing import Any

import torch
from pyro import distributions as dist
from torch import Tensor

from dgm_core.contexts import ContextShape
from pyro_dgm.conditionals.base import Conditional
from pyro_dgm.nn.contexts import batch_shape_of


class StandardLogistic(Conditional):
    """The standard logistic distribution:  z_i ~ Logistic(0, 1), independent, the distribution of
    logit U for a uniform U.

    The noise under flows that are made of distribution functions, such as `MixtureCDF`.

    Args:
        dim: a size or a shape.
        context_shape: a context gives the batch shape and nothing else.

    Shapes:
        context (*batch, *context_shape) -> batch_shape (*batch,), event_shape (dim,).

    Example:
        >>> round(StandardLogistic(2)().log_prob(torch.zeros(2)).item(), 4)
        -2.7726
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
        return (
            _Logistic(self.loc, self.scale)
            .expand((*batch_shape, *self.event_shape))
            .to_event(len(self.event_shape))
        )


class _Logistic(dist.Logistic):
    """Pyro's, but for draws that cannot be infinite: the difference of two Gumbel variables."""

    def rsample(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> Tensor:
        waiting = self.loc.new_empty((2, *self._extended_shape(sample_shape))).exponential_().log()
        return self.loc + self.scale * (waiting[0] - waiting[1])
