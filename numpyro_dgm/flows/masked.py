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

from dgm_core.masks import Block, Masking
from numpyro_dgm.flows.scalar import ScalarMap
from numpyro_dgm.nn.layers import activate


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _solve(scalar: ScalarMap, masking: Masking, activation: str, w: Array, weights: Sequence[Array], biases: Sequence[Array]) -> tuple[Array, Array]:
    """v (dim, batch) and log |det dv/dw| (batch,), differentiable in w (dim, batch), the weights before masking and the biases (units, 1 or batch)."""
    return _forward_sweep(scalar, masking, activation, w, weights, biases)


def _forward(scalar: ScalarMap, masking: Masking, activation: str, w: Array, weights: Sequence[Array], biases: Sequence[Array]) -> tuple[Any, Any]:
    v, log_det = _forward_sweep(scalar, masking, activation, w, weights, biases)
    return (v, log_det), (v, weights, biases)


def _backward(scalar: ScalarMap, masking: Masking, activation: str, saved: Any, cotangents: tuple[Array, Array]) -> Any:
    v, weights, biases = saved
    return _backward_sweep(scalar, masking, activation, v, weights, biases, *cotangents)


_solve.defvjp(_forward, _backward)


def _local(masking: Masking, block: Block, weights: Sequence[Array]) -> list[Array]:
    """The masked weights from what becomes known in the block to what becomes known in it."""
    parts = zip(masking.masks, weights, block.rows[1:], block.rows)
    return [jnp.where(mask[rows][:, columns], weight[rows][:, columns], 0.0) for mask, weight, rows, columns in parts]


def _place(layers: Sequence[Array], block: Block, new: Sequence[Array]) -> list[Array]:
    """The layers with the block's values in their rows."""
    return [layer.at[rows].set(values) for layer, rows, values in zip(layers, block.rows, new)]


def _forward_sweep(scalar: ScalarMap, masking: Masking, activation: str, w: Array, weights: Sequence[Array], biases: Sequence[Array]) -> tuple[Array, Array]:
    layers = [jnp.zeros((weight.shape[1], w.shape[1]), w.dtype) for weight in weights]  # v and the hidden layers
    log_det = jnp.zeros_like(w[0])
    for block in masking.blocks:
        # The contributions of what is known before the block.
        pre = [
            bias[rows] + weight[rows][:, before] @ layer[before]
            for weight, bias, layer, rows, before in zip(weights, biases, layers, block.rows[1:], block.before)
        ]
        new, log_slope = _forward_block(scalar, activation, block, w[block.rows[0]], _local(masking, block, weights), pre)
        layers = _place(layers, block, new)
        log_det = log_det + log_slope
    return layers[0], log_det


def _forward_block(scalar: ScalarMap, activation: str, block: Block, w: Array, weights: Sequence[Array], pre: Sequence[Array]) -> tuple[Sequence[Array], Array]:
    """v and hidden layers of the block, and its log-determinant.

    Every step takes as many rows as the widest.  What is not known yet is zero or meets weights that are zero; rows too many are made again in a later step.
    """
    widths, sizes, firsts = _extents(block)

    def step(carry: Any, inputs: Any) -> tuple[Any, None]:
        (v, *hidden), log_det = carry
        t, first, w, raw, weight = inputs
        known = v
        for l, x in enumerate(hidden):
            if sizes[l + 1]:
                rows = dynamic_slice_in_dim(weights[l], first[l], widths[l + 1])
                new = activate(activation, dynamic_slice_in_dim(pre[l], first[l], widths[l + 1]) + rows @ known)
                hidden[l] = dynamic_update_slice_in_dim(x, new, first[l], 0)
            known = hidden[l]
        value, log_slope = scalar.invert(w, (raw + weight @ known).T)
        return ((dynamic_update_slice_in_dim(v, value[None], t, 0), *hidden), log_det + log_slope), None

    empty = tuple(jnp.zeros((size, w.shape[1]), w.dtype) for size in sizes[:-1])
    by_step = (firsts[0], firsts[1:-1], w, *(x.reshape(block.size, -1, x.shape[1]) for x in (pre[-1], weights[-1])))
    return jax.lax.scan(step, (empty, jnp.zeros_like(w[0])), by_step)[0]


def _extents(block: Block) -> tuple[list[int], list[int], list[np.ndarray]]:
    """Of each layer the most rows of a step, the rows of all steps, and where those of each step begin."""
    widths = [int(max(np.diff(offsets))) for offsets in block.offsets]
    return widths, [offsets[-1] for offsets in block.offsets], [np.array(offsets[:-1]) for offsets in block.offsets]


def _backward_sweep(
    scalar: ScalarMap, masking: Masking, activation: str, v: Array, weights: Sequence[Array], biases: Sequence[Array], g: Array, k: Array
) -> tuple[Array, list[Array], list[Array]]:
    """The cotangents of w, the weights and the biases."""
    layers, slopes = [v], [v]  # the hidden layers with the slopes of their activations; those of v are not used
    for mask, weight, bias in zip(masking.masks, weights[:-1], biases):
        x = jnp.where(mask, weight, 0.0) @ layers[-1] + bias
        y, slope = jax.jvp(partial(activate, activation), (x,), (jnp.ones_like(x),))
        layers.append(y)
        slopes.append(slope)
    raw = jnp.where(masking.masks[-1], weights[-1], 0.0) @ layers[-1] + biases[-1]
    cotangents = [jnp.zeros_like(x) for x in (*layers, raw)]
    (w, _), of_scalar = jax.vjp(lambda v, raw: scalar(v, jnp.moveaxis(raw, 1, -1)), v, raw.reshape(masking.dim, -1, v.shape[1]))
    w_v, w_raw = of_scalar((jnp.ones_like(w), jnp.zeros_like(w)))  # w_raw (dim, num_params, batch)
    s_v, s_raw = of_scalar((jnp.zeros_like(w), jnp.broadcast_to(k, w.shape)))
    for block in reversed(masking.blocks):
        # The contributions of what is known after the block.
        parts = zip(weights, cotangents[1:], block.rows, block.after[1:])
        pre = [weight[after][:, rows].T @ cotangent[after] for weight, cotangent, rows, after in parts]
        local = [weight.T for weight in _local(masking, block, weights)]
        here = block.rows[0]
        pre[0] = pre[0] + g[here] - s_v[here]
        new = _backward_block(block, w_v[here], w_raw[here], s_raw[here], local, pre, [slope[rows] for slope, rows in zip(slopes, block.rows)])
        cotangents = _place(cotangents, block, new)
    by_weights = [jnp.where(mask, cotangent @ layer.T, 0.0) for mask, cotangent, layer in zip(masking.masks, cotangents[1:], layers)]
    by_biases = [cotangent.sum(1, keepdims=True) if bias.shape[1] == 1 else cotangent for cotangent, bias in zip(cotangents[1:], biases)]
    return cotangents[0], by_weights, by_biases


def _backward_block(
    block: Block, w_v: Array, w_raw: Array, s_raw: Array, weights: Sequence[Array], pre: Sequence[Array], slopes: Sequence[Array]
) -> list[Array]:
    """The cotangents of w, hidden layers and raw of the block, in the same way from the last step to the first."""
    widths, sizes, firsts = _extents(block)

    def step(cotangents: Any, inputs: Any) -> tuple[Any, Array]:
        *hidden, raw = cotangents
        first, pre_v, weight, w_v, w_raw, s_raw = inputs
        by_w = (pre_v + weight @ cotangents[0]) / w_v
        raw = known = dynamic_update_slice_in_dim(raw, -s_raw - by_w * w_raw, first[-1], 0)
        for l in reversed(range(1, len(weights))):
            if sizes[l]:
                rows = dynamic_slice_in_dim(weights[l], first[l - 1], widths[l])
                x = dynamic_slice_in_dim(pre[l], first[l - 1], widths[l]) + rows @ known
                x = x * dynamic_slice_in_dim(slopes[l], first[l - 1], widths[l])
                hidden[l - 1] = dynamic_update_slice_in_dim(hidden[l - 1], x, first[l - 1], 0)
            known = hidden[l - 1]
        return (*hidden, raw), by_w

    empty = tuple(jnp.zeros((size, w_v.shape[1]), w_v.dtype) for size in sizes[1:])
    others, by_w = jax.lax.scan(step, empty, (firsts[1:], pre[0], weights[0], w_v, w_raw, s_raw), reverse=True)
    return [by_w, *others]
