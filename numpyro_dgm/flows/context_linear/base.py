"""Transforms whose few parameters are linear in the context, or free without one: planar, radial,
Sylvester, Householder.

With the features of an encoder as context every datum has a flow of its own (amortized flows).
"""

from typing import Any

import equinox as eqx
import jax
from jax import Array

from dgm_core.arguments import check_count
from numpyro_dgm.flows.transform import Transform
from numpyro_dgm.nn import Linear

__all__ = ["ParametricTransform"]


class ParametricTransform(Transform):
    """A transform with `num_params` real parameters:  raw = W context + b (the layer `head`), or a
    free vector (`free`) without a context.

    Args:
        num_params: how many numbers there are for each coordinate or layer.
        context_dim: (0 = free parameters, which start from Normal(0, initial_scale^2)).
        initial_scale: .

    Shapes:
        context (*batch, context_dim) -> `raw(context)` (*batch, num_params), or (num_params,)
        without.

    References:
        van den Berg et al. (2018), arXiv:1803.05649, section 4 (amortization).
    """

    context_dim: int = eqx.field(static=True)
    head: Any  # a Linear; None without a context
    free: Any  # an array; None with a context

    def __init__(
        self, num_params: int, *, context_dim: int = 0, initial_scale: float = 0.1, key: Array
    ) -> None:
        self.context_dim = check_count("context_dim", context_dim, 0)
        self.head = self.free = None
        if context_dim:
            self.head = Linear(context_dim, num_params, key=key)
        else:
            self.free = initial_scale * jax.random.normal(key, (num_params,))

    def raw(self, context: Array | None) -> Array:
        """The parameters given a context."""
        return self.head(context) if self.context_dim else self.free
