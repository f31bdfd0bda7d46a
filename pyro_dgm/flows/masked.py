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

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dgm_core.masks import Masking
from pyro_dgm.flows.scalar import ScalarMap
from pyro_dgm.nn.layers import activate

__all__: list[str] = []  # for the package, not for users


def solve_masked(
    scalar: ScalarMap,
    masking: Masking,
    activation: str,
    w: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    masks: Sequence[Tensor],
) -> tuple[Tensor, Tensor]:
    """v (dim, batch) and raw (dim, num_params, batch), differentiable in w (dim, batch), the
    weights before masking and the biases (units, 1 or batch).
    """
    return _Solve.apply(scalar, masking, activation, w, *weights, *biases, *masks)


class _Solve(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        scalar: ScalarMap,
        masking: Masking,
        activation: str,
        w: Tensor,
        *parameters: Tensor,
    ) -> tuple[Tensor, Tensor]:
        count = len(parameters) // 3
        v, raw = _forward_sweep(
            scalar, masking, activation, w, parameters[:count], parameters[count : 2 * count]
        )
        ctx.settings = scalar, masking, activation
        ctx.save_for_backward(v, raw, *parameters)
        return v, raw

    @staticmethod
    def backward(ctx: Any, g: Tensor, r: Tensor) -> tuple[Tensor | None, ...]:
        v, raw, *parameters = ctx.saved_tensors
        count = len(parameters) // 3
        weights, biases, masks = (
            parameters[:count],
            parameters[count : 2 * count],
            parameters[2 * count :],
        )
        scalar, masking, activation = ctx.settings
        with torch.enable_grad():
            leaves = v.detach().requires_grad_(), raw.detach().requires_grad_()
            w, _ = scalar(leaves[0], leaves[1].movedim(1, -1))
            w_v, w_raw = torch.autograd.grad(w, leaves, torch.ones_like(w))
        with torch.no_grad():
            found = _backward_sweep(
                masking, activation, v, weights, biases, masks, w_v, w_raw, g, r
            )
        return None, None, None, *Once.apply(v, *found), *(None for _ in masks)


class Once(torch.autograd.Function):
    """The gradients, whose own derivatives are an error rather than zero; `anchor` is a tensor that
    they depend on.
    """

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, *gradients: Tensor) -> tuple[Tensor, ...]:
        return tuple(gradient.view_as(gradient) for gradient in gradients)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> None:
        raise RuntimeError(
            "The gradients of an autoregressive flow's slow direction cannot be differentiated "
            "again in torch: "
            "use a flow whose fast direction is the one in question, or the NumPyro twin."
        )


def _forward_sweep(
    scalar: ScalarMap,
    masking: Masking,
    activation: str,
    w: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
) -> tuple[Tensor, Tensor]:
    layers = [
        torch.zeros_like(w),
        *(w.new_empty(weight.shape[0], w.shape[1]) for weight in weights),
    ]  # v, hidden layers, raw
    for block in masking.blocks:
        parts = zip(weights, biases, layers, block.rows[1:], block.before)
        # The contributions of what is known before the block.
        new = [
            torch.addmm(bias[rows], weight[rows][:, before], layer[before])
            for weight, bias, layer, rows, before in parts
        ]
        new = [w[block.rows[0]].clone(), *new]
        local = [
            weight[rows][:, columns]
            for weight, rows, columns in zip(weights, block.rows[1:], block.rows)
        ]
        for t in range(block.size):
            for l, weight in enumerate(local):
                here, known = (
                    slice(*block.offsets[l + 1][t : t + 2]),
                    slice(block.offsets[l][t + (l > 0)]),
                )
                if here.start < here.stop:
                    x = new[l + 1][here].addmm_(weight[here, known], new[l][known])
                    if l + 1 < len(local):
                        x.copy_(activate(activation, x))
            raw = new[-1][slice(*block.offsets[-1][t : t + 2])]
            new[0][t] = scalar.invert(new[0][t], raw.T)[0]
        for layer, rows, values in zip(layers, block.rows, new):
            layer[rows] = values
    return layers[0], layers[-1].unflatten(0, (masking.dim, -1))


def _backward_sweep(
    masking: Masking,
    activation: str,
    v: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    masks: Sequence[Tensor],
    w_v: Tensor,
    w_raw: Tensor,
    g: Tensor,
    r: Tensor,
) -> list[Tensor]:
    """The cotangents of w, the weights and the biases."""
    layers, cotangents = (
        [v],
        [torch.empty_like(v)],
    )  # where a hidden unit's cotangent is not known yet stands the slope of its activation
    for mask, weight, bias in zip(masks, weights[:-1], biases):
        x = torch.addmm(bias, weight * mask, layers[-1]).requires_grad_()
        with torch.enable_grad():
            y = activate(activation, x)
            cotangents += torch.autograd.grad(y.sum(), x)
        layers.append(y.detach())
    cotangents.append(v.new_zeros(weights[-1].shape[0], v.shape[1]))
    for block in reversed(masking.blocks):
        parts = zip(weights, cotangents[1:], block.rows, block.after[1:])
        # The contributions of what is known after the block.
        new = [
            weight[after][:, rows].T @ cotangent[after] for weight, cotangent, rows, after in parts
        ]
        coordinates = block.rows[0]
        new[0] += g[coordinates]
        new.append(r[coordinates].flatten(0, 1).clone())
        slopes_v, slopes_raw = w_v[coordinates], w_raw[coordinates].flatten(0, 1)
        local = [
            weight[rows][:, columns]
            for weight, rows, columns in zip(weights, block.rows[1:], block.rows)
        ]
        for t in reversed(range(block.size)):
            known = slice(block.offsets[1][t + 1], None)
            new[0][t : t + 1].addmm_(local[0][known, t : t + 1].T, new[1][known]).div_(slopes_v[t])
            here = slice(*block.offsets[-1][t : t + 2])
            new[-1][here] -= new[0][t] * slopes_raw[here]
            for l in reversed(range(1, len(local))):
                here, known = (
                    slice(*block.offsets[l][t : t + 2]),
                    slice(block.offsets[l + 1][t], None),
                )
                if here.start < here.stop:
                    new[l][here].addmm_(local[l][known, here].T, new[l + 1][known]).mul_(
                        cotangents[l][block.rows[l]][here]
                    )
        for cotangent, rows, values in zip(cotangents, block.rows, new):
            cotangent[rows] = values
    by_weights = [
        cotangent @ layer.T * mask for mask, cotangent, layer in zip(masks, cotangents[1:], layers)
    ]
    by_biases = [
        cotangent.sum_to_size(bias.shape) for cotangent, bias in zip(cotangents[1:], biases)
    ]
    return [cotangents[0], *by_weights, *by_biases]
