"""Solving masked autoregressive networks: v with w_i = h(v_i; raw_i(v_<i)), in about the arithmetic
of one pass through the network.

A masked network is block triangular: before step t the units that see only the first t coordinates
are known; step t adds the units of degree t, then v_t.  So every hidden unit is computed once, by
*blocked forward substitution*: what is known before a block of steps enters by large matrix
products, what becomes known within the block by small ones.

Gradients follow from the implicit function theorem.  The cotangents lambda of w and rho of the
network's output, from those g of v and r of raw, solve

    lambda_i = (g_i + [(draw/dv)' rho]_i) / (dw_i/dv_i),     rho_i = r_i - lambda_i dw_i/draw_i,

again a triangular system, solved by the same substitution from the last step to the first.  It
finds the cotangent of every hidden unit once, and from rho the gradients of the weights follow as
in any network.  Nothing but the solution is kept in between: the activations are computed again, in
one pass. Arithmetic, in passes through the network: solution 1, gradients 3 or 4 (in the fast
direction 1 and 2).  The alternatives cost more: differentiating through the steps keeps all of
their intermediate values, and lambda from the whole Jacobian takes dim passes.  In torch the
gradients cannot be differentiated again.
"""

from collections.abc import Callable, Sequence
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

__all__: list[str] = []  # for the package, not for users

_Layers = Sequence[Array]


@partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2))
def solve_masked(
    scalar: ScalarMap,
    masking: Masking,
    activation: str,
    w: Array,
    weights: _Layers,
    biases: _Layers,
) -> tuple[Array, Array]:
    """v (dim, batch) and log |det dv/dw| (batch,), differentiable in w (dim, batch), the weights
    before masking and the biases (units, 1 or batch).
    """

    def value(w: Array, raw: Array) -> tuple[Array, Array]:
        return scalar.invert(w, raw.T)

    v, log_slopes = _forward_sweep(
        masking, weights, biases, w, value, partial(activate, activation)
    )
    return v, log_slopes.sum(0)


@solve_masked.defjvp
def _tangents(
    scalar: ScalarMap, masking: Masking, activation: str, primals: Any, tangents: Any
) -> tuple[Any, Any]:
    """Those of w_i = h(v_i; raw_i) and of the network: a linear system for dv and draw, and so is
    the transposed one.
    """
    w, weights, biases = primals
    v, log_det = solve_masked(scalar, masking, activation, w, weights, biases)
    raw, slopes = _network(masking, activation, v, weights, biases)
    of_scalar = jax.vjp(lambda v, raw: scalar(v, jnp.moveaxis(raw, 1, -1)), v, raw)[1]
    w_v, w_raw = of_scalar((jnp.ones_like(w), jnp.zeros_like(w)))
    s_v, s_raw = of_scalar((jnp.zeros_like(w), jnp.ones_like(w)))
    _, changes = jax.jvp(
        lambda *parameters: _network(masking, activation, v, *parameters)[0],
        (weights, biases),
        tangents[1:],
    )

    # dv and draw in one array (dim, 1 + num_params, batch), as all or nothing of it must be linear
    # for JAX
    def system(unknown: Array) -> Array:
        dv, draw = unknown[:, 0], unknown[:, 1:]
        by_v = jax.jvp(lambda v: _network(masking, activation, v, weights, biases)[0], (v,), (dv,))[
            1
        ]
        return _join(w_v * dv + (w_raw * draw).sum(1), draw - by_v)

    def solution(_: Any, given: Array) -> Array:
        def value(inputs: tuple[Array, Array, Array], draw: Array) -> tuple[Array, Array]:
            dw, w_v, w_raw = inputs
            return (dw - (w_raw * draw).sum(0)) / w_v, draw

        biases = [*map(jnp.zeros_like, slopes), given[:, 1:].reshape(-1, w.shape[1])]
        return _join(
            *_forward_sweep(masking, weights, biases, (given[:, 0], w_v, w_raw), value, slopes)
        )

    def transposed_solution(_: Any, given: Array) -> Array:
        return _join(
            *_backward_sweep(masking, weights, slopes, w_v, w_raw, given[:, 0], given[:, 1:])
        )

    found = jax.lax.custom_linear_solve(
        system, _join(tangents[0], changes), solution, transposed_solution
    )
    return (v, log_det), (found[:, 0], -(s_v * found[:, 0] + (s_raw * found[:, 1:]).sum(1)).sum(0))


def _join(first: Array, others: Array) -> Array:
    return jnp.concatenate([first[:, None], others], 1)


def _network(
    masking: Masking, activation: str, v: Array, weights: _Layers, biases: _Layers
) -> tuple[Array, list[Array]]:
    """raw (dim, num_params, batch) in one pass, and the slopes of the hidden layers'
    activations.
    """
    slopes = []
    for l, (mask, weight, bias) in enumerate(zip(masking.masks, weights, biases)):
        v = jnp.where(mask, weight, 0.0) @ v + bias
        if l + 1 < len(weights):
            v, slope = jax.jvp(partial(activate, activation), (v,), (jnp.ones_like(v),))
            slopes.append(slope)
    return v.reshape(masking.dim, -1, v.shape[1]), slopes


def _local(masking: Masking, block: Block, weights: _Layers) -> list[Array]:
    """The masked weights from what becomes known in the block to what becomes known in it."""
    parts = zip(masking.masks, weights, block.rows[1:], block.rows)
    return [
        jnp.where(mask[rows][:, columns], weight[rows][:, columns], 0.0)
        for mask, weight, rows, columns in parts
    ]


def _extents(block: Block) -> tuple[list[int], list[int], list[np.ndarray]]:
    """Of each layer the most rows of a step, the rows of all steps, and where those of each step
    begin.
    """
    widths = [int(max(np.diff(offsets))) for offsets in block.offsets]
    return (
        widths,
        [offsets[-1] for offsets in block.offsets],
        [np.array(offsets[:-1]) for offsets in block.offsets],
    )


def _forward_sweep(
    masking: Masking,
    weights: _Layers,
    biases: _Layers,
    inputs: Any,
    value: Callable[[Any, Array], tuple[Array, Array]],
    unit: Callable[[Array], Array] | _Layers,
) -> tuple[Array, Array]:
    """v_i and more of each coordinate from value(inputs_i, raw_i); hidden units are unit(x), or
    unit * x for each layer's array of factors.
    """
    first = jax.tree.leaves(inputs)[0]
    v, others = jnp.zeros_like(first), []
    hidden = [
        jnp.zeros((0, v.shape[1]), v.dtype) for _ in weights[1:]
    ]  # what is known of the hidden layers
    for block in masking.blocks:
        # The contributions of what is known before the block.
        parts = zip(weights, biases, [v, *hidden], block.rows[1:], block.before)
        pre = [
            bias[rows] + weight[rows][:, before] @ known
            for weight, bias, known, rows, before in parts
        ]
        units = (
            unit if callable(unit) else [factor[rows] for factor, rows in zip(unit, block.rows[1:])]
        )
        here = jax.tree.map(lambda x: x[block.rows[0]], inputs)  # noqa: B023
        (new, *more), other = _forward_block(
            block, _local(masking, block, weights), pre, here, value, units
        )
        v, hidden = (
            v.at[block.rows[0]].set(new),
            [jnp.concatenate(pair) for pair in zip(hidden, more)],
        )
        others.append(other)
    return v, jnp.concatenate(others)[np.argsort(masking.order)]


def _forward_block(
    block: Block,
    weights: _Layers,
    pre: _Layers,
    inputs: Any,
    value: Callable[[Any, Array], tuple[Array, Array]],
    unit: Callable[[Array], Array] | _Layers,
) -> tuple[_Layers, Array]:
    """v and hidden layers of the block, and what more `value` gives.

    Every step takes as many rows as the widest.  What is not known yet is zero or meets weights
    that are zero; rows too many are made again in a later step.
    """
    widths, sizes, firsts = _extents(block)

    def step(layers: Any, given: Any) -> tuple[Any, Array]:
        v, *hidden = layers
        t, first, inputs, raw, weight = given
        known = v
        for l, x in enumerate(hidden):
            if sizes[l + 1]:
                rows = partial(dynamic_slice_in_dim, start_index=first[l], slice_size=widths[l + 1])
                new = rows(pre[l]) + rows(weights[l]) @ known
                new = unit(new) if callable(unit) else rows(unit[l]) * new
                hidden[l] = dynamic_update_slice_in_dim(x, new, first[l], 0)
            known = hidden[l]
        new, other = value(inputs, raw + weight @ known)
        return (dynamic_update_slice_in_dim(v, new[None], t, 0), *hidden), other

    empty = tuple(jnp.zeros((size, pre[-1].shape[1]), pre[-1].dtype) for size in sizes[:-1])
    by_step = (
        firsts[0],
        firsts[1:-1],
        inputs,
        *(x.reshape(block.size, -1, x.shape[1]) for x in (pre[-1], weights[-1])),
    )
    return jax.lax.scan(step, empty, by_step)


def _backward_sweep(
    masking: Masking,
    weights: _Layers,
    slopes: _Layers,
    w_v: Array,
    w_raw: Array,
    g: Array,
    r: Array,
) -> tuple[Array, Array]:
    """The cotangents lambda of w and rho of raw (dim, num_params, batch)."""
    by_w, by_raw = jnp.zeros_like(g), jnp.zeros((len(weights[-1]), g.shape[1]), g.dtype)
    hidden = [
        jnp.zeros((0, g.shape[1]), g.dtype) for _ in slopes
    ]  # what is known of the hidden layers' cotangents
    for block in reversed(masking.blocks):
        # The contributions of what is known after the block.
        parts = zip(weights, [*hidden, by_raw], block.rows, block.after[1:])
        pre = [weight[after][:, rows].T @ known for weight, known, rows, after in parts]
        here = block.rows[0]
        pre[0] = pre[0] + g[here]
        factors = [slope[rows] for slope, rows in zip(slopes, block.rows[1:])]
        new, *more, raw = _backward_block(
            block, _local(masking, block, weights), pre, factors, w_v[here], w_raw[here], r[here]
        )
        by_w, by_raw, hidden = (
            by_w.at[here].set(new),
            by_raw.at[block.rows[-1]].set(raw),
            [jnp.concatenate(pair) for pair in zip(more, hidden)],
        )
    return by_w, by_raw.reshape(r.shape)


def _backward_block(
    block: Block,
    weights: _Layers,
    pre: _Layers,
    slopes: _Layers,
    w_v: Array,
    w_raw: Array,
    r: Array,
) -> list[Array]:
    """The cotangents of w, hidden layers and raw of the block, in the same way from the last step
    to the first.
    """
    widths, sizes, firsts = _extents(block)
    weights = [weight.T for weight in weights]

    def step(cotangents: Any, given: Any) -> tuple[Any, Array]:
        *hidden, raw = cotangents
        first, pre_v, weight, w_v, w_raw, r = given
        by_w = (pre_v + weight @ cotangents[0]) / w_v
        raw = known = dynamic_update_slice_in_dim(raw, r - by_w * w_raw, first[-1], 0)
        for l in reversed(range(1, len(weights))):
            if sizes[l]:
                rows = partial(dynamic_slice_in_dim, start_index=first[l - 1], slice_size=widths[l])
                new = (rows(pre[l]) + rows(weights[l]) @ known) * rows(slopes[l - 1])
                hidden[l - 1] = dynamic_update_slice_in_dim(hidden[l - 1], new, first[l - 1], 0)
            known = hidden[l - 1]
        return (*hidden, raw), by_w

    empty = tuple(jnp.zeros((size, w_v.shape[1]), w_v.dtype) for size in sizes[1:])
    others, by_w = jax.lax.scan(
        step, empty, (firsts[1:], pre[0], weights[0], w_v, w_raw, r), reverse=True
    )
    return [by_w, *others]
