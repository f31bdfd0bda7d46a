"""Transforms whose few parameters are linear in the context, or free without one: planar, radial,
Sylvester, Householder.

With the features of an encoder as context every datum has a flow of its own (amortized flows).
"""

import torch
from torch import Tensor, nn

from dgm_core.contexts import ContextShape, check_context_shape, context_size
from pyro_dgm.flows.transform import Transform
from pyro_dgm.nn import Linear
from pyro_dgm.nn.contexts import flat

__all__ = ["ParametricTransform"]


class ParametricTransform(Transform):
    """A transform with `num_params` real parameters:  raw = W context + b (the layer `head`), or a
    free vector (`free`) without a context.

    Args:
        num_params: how many numbers there are for each coordinate or layer.
        context_shape: (0 = free parameters, which start from Normal(0, initial_scale^2)).
        initial_scale: .

    Shapes:
        context (*batch, *context_shape) -> `raw(context)` (*batch, num_params), or (num_params,)
        without.

    References:
        van den Berg et al. (2018), arXiv:1803.05649, section 4 (amortization).
    """

    def __init__(
        self, num_params: int, *, context_shape: ContextShape = 0, initial_scale: float = 0.1
    ) -> None:
        super().__init__()
        self.context_shape = check_context_shape("context_shape", context_shape)
        if self.context_shape:
            self.head = Linear(context_size(context_shape), num_params)
        else:
            self.free = nn.Parameter(initial_scale * torch.randn(num_params))

    def raw(self, context: Tensor | None) -> Tensor:
        """The parameters given a context."""
        return self.head(flat(context, self.context_shape)) if self.context_shape else self.free
