"""Transforms whose few parameters are linear in the context, or free without one: planar, radial,
Sylvester, Householder.

With the features of an encoder as context every datum has a flow of its own (amortized flows).
"""

from typing import Any

import equinox as eqx
import jax
from jax import Array

from dgm_core.contexts import ContextShape, check_context_shape, context_size
from numpyro_dgm.flows.transform import Transform
from numpyro_dgm.nn import Linear
from numpyro_dgm.nn.contexts import flat

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

    context_shape: tuple[Any, ...] = eqx.field(static=True)
    head: Any  # a Linear; None without a context
    free: Any  # an array; None with a context

    def __init__(
        self,
        num_params: int,
        *,
        context_shape: ContextShape = 0,
        initial_scale: float = 0.1,
        key: Array,
    ) -> None:
        self.context_shape = check_context_shape("context_shape", context_shape)
        self.head = self.free = None
        if self.context_shape:
            self.head = Linear(context_size(context_shape), num_params, key=key)
        else:
            self.free = initial_scale * jax.random.normal(key, (num_params,))

    def raw(self, context: Array | None) -> Array:
        """The parameters given a context."""
        return self.head(flat(context, self.context_shape)) if self.context_shape else self.free
