"""Masked autoregressive networks: all parameters of p(v_i | v_<i, c), i = 1, ..., D, in one pass,
and the v that belongs to given w_i = h(v_i; raw_i) too.

The second direction is solved unit by unit, each hidden unit once, and differentiated by the
implicit function theorem: the same substitution in reverse gives the gradients of values, weights
and context in three or four passes of arithmetic (`masked.py` has the equations).  Automatic
differentiation of the usual inverse, a pass for each coordinate, would cost 2 D passes and keep D
times the activations.
"""

from collections.abc import Sequence
from math import sqrt
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

from dgm_core.arguments import check_count
from dgm_core.contexts import ContextShape, TakesContext, check_context_shape, context_size
from dgm_core.masks import Masking, check_autoregressive, masking
from numpyro_dgm.flows.masked import solve_masked
from numpyro_dgm.flows.scalar import ScalarMap
from numpyro_dgm.nn.contexts import batch_shape_of, flat
from numpyro_dgm.nn.initial import placed, uniform_draws
from numpyro_dgm.nn.layers import Linear, activate, check_activation, times

__all__ = ["MADE"]


class MADE(TakesContext, eqx.Module):
    """A network whose output raw_i depends on the context and on v_j for the j before i in `order`
    only.

    h_1 = activation((W_1 * M_1) v + b_1 + C c);  h_l = activation((W_l * M_l) h_{l-1} + b_l);  raw
    = (W * M) h_L + b,  with masks M of zeros and ones.

    Args:
        dim: D.
        num_params: outputs of each coordinate.
        hidden: the sizes of the hidden layers, at best D or more: of fewer units only some can see
            the first coordinates and some the last.
        order: a permutation of 0, ..., D - 1, from the coordinate that sees nothing to the one that
            sees all others (default: 0, 1, ...).
        context_shape: 0 = none.
        activation: as in `MLP`.

    Shapes:
        v (*batch, D), context (*batch, *context_shape) -> raw (*batch, D, num_params).

    Cost:
        one pass of a dense network; `solve` about as much arithmetic, in D steps.

    Raises:
        ValueError: for a size below 1, an order that is no permutation, or an unknown activation.

    References:
        Germain et al. (2015), arXiv:1502.03509.

    Example:
        >>> MADE(3, 2, key=jax.random.key(0))(jnp.zeros((7, 3))).shape
        (7, 3, 2)
    """

    masking: Masking = eqx.field(static=True)
    context_shape: tuple[Any, ...] = eqx.field(static=True)
    activation: str = eqx.field(static=True)
    layers: list[Linear]
    context_weight: Any  # an array (units, entries of a context); None without a context

    def __init__(
        self,
        dim: int,
        num_params: int,
        *,
        hidden: Sequence[int] = (64, 64),
        order: Sequence[int] | None = None,
        context_shape: ContextShape = 0,
        activation: str = "relu",
        key: Array,
    ) -> None:
        hidden, order = check_autoregressive(dim, hidden, order)
        self.context_shape = check_context_shape("context_shape", context_shape)
        entries = context_size(self.context_shape)
        num_params = check_count("num_params", num_params)
        self.masking = masking(order, hidden, num_params, entries > 0)
        self.activation = check_activation(activation)
        sizes = (dim, *hidden, dim * num_params)
        context_key, *keys = jax.random.split(key, len(sizes))
        layers = [Linear(a, b, key=k) for a, b, k in zip(sizes, sizes[1:], keys)]
        limit = 1.0 / sqrt(max(entries, 1))
        context_weight = placed(uniform_draws(context_key, (sizes[1], entries), limit))
        # Near raw = 0, which is the identity for most scalar maps.
        layers[-1] = jax.tree.map(lambda parameter: 0.01 * parameter, layers[-1])
        self.layers, self.context_weight = (
            layers,
            (context_weight if hidden else 0.01 * context_weight) if entries else None,
        )

    def __call__(self, v: Array, context: Array | None = None) -> Array:
        """The parameters raw (*batch, D, num_params) of v (*batch, D)."""
        for index, (layer, mask) in enumerate(zip(self.layers, self.masking.masks)):
            v = times(v, jnp.where(mask, layer.weight, 0.0)) + layer.bias
            if context is not None and index == 0:
                v = v + flat(context, self.context_shape) @ self.context_weight.T
            if index + 1 < len(self.layers):
                v = activate(self.activation, v)
        return v.reshape(*v.shape[:-1], self.masking.dim, -1)

    def solve(
        self, w: Array, scalar: ScalarMap, context: Array | None = None
    ) -> tuple[Array, Array]:
        """v (*batch, D) with scalar(v, forward(v, context)) = w, and log |det dv/dw| (*batch,);
        differentiable in w, context and the weights.
        """
        batch = jnp.broadcast_shapes(w.shape[:-1], batch_shape_of(context, self.context_shape))
        weights, biases = (
            [layer.weight for layer in self.layers],
            [layer.bias[:, None] for layer in self.layers],
        )
        if context is not None:
            given = flat(context, self.context_shape) @ self.context_weight.T
            biases[0] = (
                biases[0]
                + jnp.broadcast_to(given, (*batch, given.shape[-1])).reshape(-1, given.shape[-1]).T
            )
        columns = jnp.broadcast_to(w, (*batch, self.masking.dim)).reshape(-1, self.masking.dim).T
        v, log_det = solve_masked(scalar, self.masking, self.activation, columns, weights, biases)
        return v.T.reshape(*batch, -1), log_det.reshape(batch)

    def __repr__(self) -> str:
        return (
            f"MADE({self.masking.dim}, {self.masking.num_params}, "
            f"hidden={self.masking.hidden}, activation={self.activation!r})"
        )
