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
from typing import Any

import torch
from torch import Tensor

from dgm_core.masks import Masking
from pyro_dgm.flows.scalar import ScalarMap
from pyro_dgm.nn.layers import activate


def _solve(scalar: ScalarMap, masking: Masking, activation: str, w: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """v (dim, batch) and log |det dv/dw| (batch,), differentiable in w (dim, batch), the masked weights and the biases (units, 1 or batch).

    Coordinates are in the order of their ranks everywhere.
    """
    return _Solve.apply(scalar, masking, activation, w, *weights, *biases)


class _Solve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scalar: ScalarMap, masking: Masking, activation: str, w: Tensor, *parameters: Tensor) -> tuple[Tensor, Tensor]:
        half = len(parameters) // 2
        v, log_det = _forward_sweep(scalar, masking, activation, w, parameters[:half], parameters[half:])
        ctx.settings = scalar, masking, activation
        ctx.save_for_backward(v, *parameters)
        return v, log_det

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g: Tensor, k: Tensor) -> tuple[Tensor | None, ...]:
        v, *parameters = ctx.saved_tensors
        half = len(parameters) // 2
        scalar, masking, activation = ctx.settings
        return None, None, None, *_backward_sweep(scalar, masking, activation, v, parameters[:half], parameters[half:], g, k)


def _forward_sweep(
    scalar: ScalarMap, masking: Masking, activation: str, w: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    done = masking.done
    layers = [torch.empty_like(w), *(w.new_empty(weight.shape[0], w.shape[1]) for weight in weights)]  # v, hidden layers, raw
    log_det = torch.zeros_like(w[0])
    for start, stop in masking.blocks():
        for l, (weight, bias) in enumerate(zip(weights, biases)):  # the contributions of what is known before the block
            rows, known = slice(done[l + 1][start], done[l + 1][stop]), slice(done[l][start])
            torch.addmm(bias[rows], weight[rows, known], layers[l][known], out=layers[l + 1][rows])
        for t in range(start, stop):
            for l, weight in enumerate(weights):
                rows, new = slice(*done[l + 1][t : t + 2]), slice(done[l][start], done[l][t + (l > 0)])
                if rows.start < rows.stop:
                    x = layers[l + 1][rows].addmm_(weight[rows, new], layers[l][new])
                    if l + 1 < len(weights):
                        x.copy_(activate(activation, x))
            raw = layers[-1][t * masking.num_params : (t + 1) * masking.num_params]
            layers[0][t], log_slope = scalar.invert(w[t], raw.T)
            log_det += log_slope
    return layers[0], log_det


def _backward_sweep(
    scalar: ScalarMap, masking: Masking, activation: str, v: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], g: Tensor, k: Tensor
) -> list[Tensor]:
    """The cotangents of w, the weights and the biases."""
    done = masking.done
    layers, slopes = [v], [v]  # the hidden layers with the slopes of their activations; those of v are not used
    for weight, bias in zip(weights[:-1], biases):
        x = torch.addmm(bias, weight, layers[-1]).requires_grad_()
        with torch.enable_grad():
            y = activate(activation, x)
            slopes.append(torch.autograd.grad(y.sum(), x)[0])
        layers.append(y.detach())
    raw = torch.addmm(biases[-1], weights[-1], layers[-1]).unflatten(0, (masking.dim, -1))  # (dim, num_params, batch)
    with torch.enable_grad():
        v, raw = v.detach().requires_grad_(), raw.requires_grad_()
        w, log_slope = scalar(v, raw.movedim(1, -1))
        w_v, w_raw = torch.autograd.grad(w.sum(), (v, raw), retain_graph=True)
        s_v, s_raw = torch.autograd.grad(log_slope, (v, raw), k.expand_as(v), materialize_grads=True) if log_slope.requires_grad else (0 * v, 0 * raw)
    cotangents = [g - s_v, *(torch.zeros_like(layer) for layer in layers[1:]), -s_raw.flatten(0, 1)]
    for start, stop in reversed(list(masking.blocks())):
        for l, weight in enumerate(weights):  # the contributions of what is known after the block
            rows, known = slice(done[l][start], done[l][stop]), slice(done[l + 1][stop], None)
            cotangents[l][rows].addmm_(weight[known, rows].T, cotangents[l + 1][known])
        for t in reversed(range(start, stop)):
            new = slice(done[1][t + 1], done[1][stop])
            cotangents[0][t : t + 1].addmm_(weights[0][new, t : t + 1].T, cotangents[1][new]).div_(w_v[t])
            cotangents[-1][t * masking.num_params : (t + 1) * masking.num_params] -= cotangents[0][t] * w_raw[t]
            for l in reversed(range(1, len(weights))):
                rows, new = slice(*done[l][t : t + 2]), slice(done[l + 1][t], done[l + 1][stop])
                if rows.start < rows.stop:
                    cotangents[l][rows].addmm_(weights[l][new, rows].T, cotangents[l + 1][new]).mul_(slopes[l][rows])
    by_weights = [cotangent @ layer.T for cotangent, layer in zip(cotangents[1:], layers)]
    by_biases = [cotangent.sum_to_size(bias.shape) for cotangent, bias in zip(cotangents[1:], biases)]
    return [cotangents[0], *by_weights, *by_biases]
