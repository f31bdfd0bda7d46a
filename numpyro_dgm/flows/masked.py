"""Solving masked autoregressive networks: v with w_i = h(v_i; raw_i(v_<i)), in about the arithmetic of one pass through the network.

A masked network is block triangular: before step t the units that see only the first t coordinates are known; step t adds the units of degree t, then v_t.  So
every hidden unit is computed once, by *blocked forward substitution*: what is known before a block of steps enters by large matrix products, what becomes
known within the block by small ones.

Gradients follow from the implicit function theorem.  With s = sum_i log dw_i/dv_i and the cotangents g of v and k of log |det dv/dw| = -s, the cotangents
lambda of w and rho of raw solve

    lambda_i = (g_i - k ds/dv_i + [(draw/dv)' rho]_i) / (dw_i/dv_i),     rho_i = -k ds/draw_i - lambda_i dw_i/draw_i,

again a triangular system, solved by the same substitution from the last step to the first.  On its way it finds the cotangent of every hidden unit once, and
one matrix product per layer turns those into the gradients of the weights.  Nothing but v is kept in between: the activations are computed again, in one pass.
Arithmetic, in passes through the network: solution 1, gradients 3 (in the fast direction 1 and 2).  The alternatives cost more: differentiating through the
steps keeps all of their intermediate values, and lambda from the whole Jacobian takes dim passes.  In torch the gradients cannot be differentiated
once more.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.lax import dynamic_slice_in_dim, dynamic_update_slice_in_dim

from dgm_core.masks import Masking
from numpyro_dgm.flows.scalar import ScalarMap
from numpyro_dgm.nn.layers import activate


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _solve(scalar: ScalarMap, masking: Masking, activation: str, w: Array, weights: Sequence[Array], biases: Sequence[Array]) -> tuple[Array, Array]:
    """v (dim, batch) and log |det dv/dw| (batch,), differentiable in w (dim, batch), the masked weights and the biases (units, 1 or batch).

    Coordinates are in the order of their ranks everywhere.
    """
    return _forward_sweep(scalar, masking, activation, w, weights, biases)


def _forward(scalar: ScalarMap, masking: Masking, activation: str, w: Array, weights: Sequence[Array], biases: Sequence[Array]) -> tuple[Any, Any]:
    v, log_det = _forward_sweep(scalar, masking, activation, w, weights, biases)
    return (v, log_det), (v, weights, biases)


def _backward(scalar: ScalarMap, masking: Masking, activation: str, saved: Any, cotangents: tuple[Array, Array]) -> Any:
    v, weights, biases = saved
    return _backward_sweep(scalar, masking, activation, v, weights, biases, *cotangents)


_solve.defvjp(_forward, _backward)


class _Block:
    """Where the values that become known in the steps from `start` to `stop` stand in each layer: v, hidden layers, raw."""

    def __init__(self, masking: Masking, start: int, stop: int) -> None:
        self.steps = np.arange(stop - start)
        self.rows = [slice(counts[start], counts[stop]) for counts in masking.done]
        self.sizes = [rows.stop - rows.start for rows in self.rows]
        self.firsts = [np.array(counts[start:stop]) - counts[start] for counts in masking.done]  # of each step, within the block
        self.widths = [int(max(np.diff(counts[start : stop + 1]))) for counts in masking.done]  # all steps take as many rows as the widest


def _forward_sweep(scalar: ScalarMap, masking: Masking, activation: str, w: Array, weights: Sequence[Array], biases: Sequence[Array]) -> tuple[Array, Array]:
    layers = [jnp.zeros((0, w.shape[1]), w.dtype) for _ in weights]  # what is known of v and of the hidden layers
    log_det = jnp.zeros_like(w[0])
    for block in (_Block(masking, *steps) for steps in masking.blocks()):
        # The contributions of what is known before the block.
        pre = [bias[rows] + weight[rows, : len(layer)] @ layer for weight, bias, layer, rows in zip(weights, biases, layers, block.rows[1:])]
        local = [weight[rows, columns] for weight, rows, columns in zip(weights, block.rows[1:], block.rows)]
        new, log_slope = _forward_block(scalar, activation, block, w[block.rows[0]], local, pre)
        layers = [jnp.concatenate([layer, more]) for layer, more in zip(layers, new)]
        log_det = log_det + log_slope
    return layers[0], log_det


def _forward_block(
    scalar: ScalarMap, activation: str, block: _Block, w: Array, weights: Sequence[Array], pre: Sequence[Array]
) -> tuple[Sequence[Array], Array]:
    """v and hidden layers of the block, and its log-determinant.

    What is not known yet is zero, or meets weights that are zero: the rows too many of a step are made again, and rightly, in a later one.
    """

    def step(carry: Any, inputs: Any) -> tuple[Any, None]:
        (v, *hidden), log_det = carry
        t, firsts, w, raw, weight = inputs
        known = v
        for l, first in enumerate(firsts):
            if block.sizes[l + 1]:
                rows = dynamic_slice_in_dim(weights[l], first, block.widths[l + 1])
                x = dynamic_slice_in_dim(pre[l], first, block.widths[l + 1]) + rows @ known
                hidden[l] = dynamic_update_slice_in_dim(hidden[l], activate(activation, x), first, 0)
            known = hidden[l]
        value, log_slope = scalar.invert(w, (raw + weight @ known).T)
        return ((dynamic_update_slice_in_dim(v, value[None], t, 0), *hidden), log_det + log_slope), None

    empty = tuple(jnp.zeros((size, w.shape[1]), w.dtype) for size in block.sizes[:-1])
    by_step = (block.steps, block.firsts[1:-1], w, *(x.reshape(len(w), -1, x.shape[1]) for x in (pre[-1], weights[-1])))
    return jax.lax.scan(step, (empty, jnp.zeros_like(w[0])), by_step)[0]


def _backward_sweep(
    scalar: ScalarMap, masking: Masking, activation: str, v: Array, weights: Sequence[Array], biases: Sequence[Array], g: Array, k: Array
) -> tuple[Array, list[Array], list[Array]]:
    """The cotangents of w, the weights and the biases."""
    layers, slopes = [v], [v]  # the hidden layers with the slopes of their activations; those of v are not used
    for weight, bias in zip(weights[:-1], biases):
        x = weight @ layers[-1] + bias
        y, slope = jax.jvp(partial(activate, activation), (x,), (jnp.ones_like(x),))
        layers.append(y)
        slopes.append(slope)
    raw = (weights[-1] @ layers[-1] + biases[-1]).reshape(*v.shape[:1], -1, v.shape[1])  # (dim, num_params, batch)
    (w, _), of_scalar = jax.vjp(lambda v, raw: scalar(v, jnp.moveaxis(raw, 1, -1)), v, raw)
    w_v, w_raw = of_scalar((jnp.ones_like(w), jnp.zeros_like(w)))
    s_v, s_raw = of_scalar((jnp.zeros_like(w), jnp.broadcast_to(k, w.shape)))
    cotangents = [jnp.zeros((0, v.shape[1]), v.dtype) for _ in range(len(weights) + 1)]  # what is known of those of w, hidden layers, raw
    for block in (_Block(masking, *steps) for steps in reversed(list(masking.blocks()))):
        # The contributions of what is known after the block.
        pre = [weight[len(weight) - len(later) :, rows].T @ later for weight, later, rows in zip(weights, cotangents[1:], block.rows)]
        local = [weight[rows, columns].T for weight, rows, columns in zip(weights, block.rows[1:], block.rows)]
        here = block.rows[0]
        pre[0] = pre[0] + g[here] - s_v[here]
        new = _backward_block(block, w_v[here], w_raw[here], s_raw[here], local, pre, [slope[rows] for slope, rows in zip(slopes, block.rows)])
        cotangents = [jnp.concatenate([more, later]) for more, later in zip(new, cotangents)]
    by_weights = [cotangent @ layer.T for cotangent, layer in zip(cotangents[1:], layers)]
    by_biases = [cotangent.sum(1, keepdims=True) if bias.shape[1] == 1 else cotangent for cotangent, bias in zip(cotangents[1:], biases)]
    return cotangents[0], by_weights, by_biases


def _backward_block(
    block: _Block, w_v: Array, w_raw: Array, s_raw: Array, weights: Sequence[Array], pre: Sequence[Array], slopes: Sequence[Array]
) -> list[Array]:
    """The cotangents of w, hidden layers and raw of the block."""

    def step(cotangents: Any, inputs: Any) -> tuple[Any, Array]:
        *hidden, raw = cotangents
        firsts, pre_v, weight, w_v, w_raw, s_raw = inputs
        by_w = (pre_v + weight @ cotangents[0]) / w_v
        raw = known = dynamic_update_slice_in_dim(raw, -s_raw - by_w * w_raw, firsts[-1], 0)
        for l in reversed(range(1, len(weights))):
            if block.sizes[l]:
                rows = dynamic_slice_in_dim(weights[l], firsts[l - 1], block.widths[l])
                x = dynamic_slice_in_dim(pre[l], firsts[l - 1], block.widths[l]) + rows @ known
                x = x * dynamic_slice_in_dim(slopes[l], firsts[l - 1], block.widths[l])
                hidden[l - 1] = dynamic_update_slice_in_dim(hidden[l - 1], x, firsts[l - 1], 0)
            known = hidden[l - 1]
        return (*hidden, raw), by_w

    empty = tuple(jnp.zeros((size, w_v.shape[1]), w_v.dtype) for size in block.sizes[1:])
    by_step = (block.firsts[1:], pre[0], weights[0], w_v, w_raw, s_raw)
    others, by_w = jax.lax.scan(step, empty, by_step, reverse=True)
    return [by_w, *others]
