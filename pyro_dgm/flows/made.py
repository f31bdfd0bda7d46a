"""Masked autoregressive networks: all parameters of p(v_i | v_<i, c), i = 1, ..., D, in one pass,
and the v that belongs to given w_i = h(v_i; raw_i) too.

The second direction is solved unit by unit, each hidden unit once, and differentiated by the
implicit function theorem: the same substitution in reverse gives the gradients of values, weights
and context in three or four passes of arithmetic (`masked.py` has the equations).  Automatic
differentiation of the usual inverse, a pass for each coordinate, would cost 2 D passes and keep D
times the activations.
"""

from collections.abc import Sequence
from itertools import pairwise
from math import sqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dgm_core.arguments import check_count
from dgm_core.contexts import ContextShape, TakesContext, check_context_shape, context_size
from dgm_core.masks import check_autoregressive, masking
from pyro_dgm.flows.masked import solve_masked
from pyro_dgm.flows.roots import in_torch_func
from pyro_dgm.flows.scalar import ScalarMap
from pyro_dgm.nn.contexts import batch_shape_of, flat
from pyro_dgm.nn.initial import uniform_draws
from pyro_dgm.nn.layers import Linear, activate, check_activation

__all__ = ["MADE"]


class MADE(TakesContext, nn.Module):
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
        >>> MADE(3, 2)(torch.zeros(7, 3)).shape
        torch.Size([7, 3, 2])
    """

    context_weight: Any  # a parameter (units, entries of a context); None without a context

    def __init__(
        self,
        dim: int,
        num_params: int,
        *,
        hidden: Sequence[int] = (64, 64),
        order: Sequence[int] | None = None,
        context_shape: ContextShape = 0,
        activation: str = "relu",
    ) -> None:
        super().__init__()
        hidden, order = check_autoregressive(dim, hidden, order)
        self.context_shape = check_context_shape("context_shape", context_shape)
        entries = context_size(self.context_shape)
        num_params = check_count("num_params", num_params)
        self.masking = masking(order, hidden, num_params, entries > 0)
        self.activation = check_activation(activation)
        sizes = (dim, *hidden, dim * num_params)
        self.layers = nn.ModuleList(Linear(a, b) for a, b in pairwise(sizes))
        limit = 1.0 / sqrt(max(entries, 1))
        self.context_weight = (
            nn.Parameter(uniform_draws((sizes[1], entries), limit)) if entries else None
        )
        with torch.no_grad():  # near raw = 0, which is the identity for most scalar maps
            for parameter in (
                *self.layers[-1].parameters(),
                *([] if hidden or not entries else [self.context_weight]),
            ):
                parameter *= 0.01
        for index, mask in enumerate(self.masking.masks):
            self.register_buffer(
                f"mask_{index}",
                torch.as_tensor(mask, dtype=torch.get_default_dtype()),
                persistent=False,
            )

    def forward(self, v: Tensor, context: Tensor | None = None) -> Tensor:
        """The parameters raw (*batch, D, num_params) of v (*batch, D)."""
        layers: list[Any] = list(self.layers)
        for index, layer in enumerate(layers):
            v = F.linear(v, layer.weight * getattr(self, f"mask_{index}"), layer.bias)
            if context is not None and index == 0:
                v = v + F.linear(flat(context, self.context_shape), self.context_weight)
            if index + 1 < len(layers):
                v = activate(self.activation, v)
        return v.unflatten(-1, (self.masking.dim, -1))

    def solve(
        self, w: Tensor, scalar: ScalarMap, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """v (*batch, D) with scalar(v, forward(v, context)) = w, and log |det dv/dw| (*batch,);
        differentiable in w, context and the weights.
        """
        batch = torch.broadcast_shapes(w.shape[:-1], batch_shape_of(context, self.context_shape))
        if in_torch_func():
            return self._solve_by_passes(w.expand(*batch, -1), scalar, context)
        layers: list[Any] = list(self.layers)
        weights, biases = (
            [layer.weight for layer in layers],
            [layer.bias[:, None] for layer in layers],
        )
        masks = [getattr(self, f"mask_{index}") for index in range(len(layers))]
        if context is not None:
            biases[0] = (
                biases[0]
                + F.linear(flat(context, self.context_shape), self.context_weight)
                .expand(*batch, -1)
                .reshape(-1, self.context_weight.shape[0])
                .T
            )
        columns = w.expand(*batch, -1).reshape(-1, self.masking.dim).T.contiguous()
        v, raw = solve_masked(
            scalar, self.masking, self.activation, columns, weights, biases, masks
        )
        log_det = -scalar(v, raw.movedim(1, -1))[1].sum(0)
        return v.T.reshape(*batch, -1), log_det.reshape(batch)

    def _solve_by_passes(
        self, w: Tensor, scalar: ScalarMap, context: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The same in D passes, of ordinary operations only."""
        v, places = torch.zeros_like(w), torch.arange(w.shape[-1], device=w.device)
        for i in self.masking.order:
            v = torch.where(places == i, scalar.invert(w, self(v, context))[0], v)
        return v, -scalar(v, self(v, context))[1].sum(-1)

    def __repr__(self) -> str:
        return (
            f"MADE({self.masking.dim}, {self.masking.num_params}, "
            f"hidden={self.masking.hidden}, activation={self.activation!r})"
        )
