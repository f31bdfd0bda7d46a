"""Block neural autoregressive flows: one network for all coordinates that is increasing in each of
them, by the signs of its weights.

g has tanh layers with the same number of units for every coordinate.  The weights between units of
one coordinate are positive, those from earlier coordinates are free, those from later ones zero: so
g_i depends on u_<=i and increases in u_i, and dg_i/du_i is a product of the small blocks on the
diagonal.  The gate alpha in (0, 1) makes x_i = alpha g_i(u_<=i, c) + (1 - alpha) u_i a map onto the
real line, since g is bounded.

The inverse finds one u_i after the other by a root search; the earlier coordinates enter by the
values of their units, each computed once.  Its gradients are those of the implicit function
theorem: lambda = J^-T (cotangent of u) by a substitution from the last coordinate to the first, in
about the arithmetic of one pass, then one ordinary backward pass.  Differentiating through the
search would keep all of its iterations, and the whole Jacobian costs D passes.  In torch these
gradients cannot be differentiated once more.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from math import sqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dgm_core.arguments import check_count
from dgm_core.contexts import ContextShape, check_context_shape, context_size
from dgm_core.masks import check_autoregressive
from pyro_dgm.conditionals import Conditional
from pyro_dgm.flows.flow import Flow
from pyro_dgm.flows.masked import Once
from pyro_dgm.flows.roots import in_torch_func, increasing_root
from pyro_dgm.flows.transform import Inverse, Transform
from pyro_dgm.nn import Linear
from pyro_dgm.nn.contexts import batch_shape_of, flat
from pyro_dgm.nn.initial import uniform_draws

__all__ = ["BNAF", "BlockAutoregressive"]

_Layers = list[
    tuple[Tensor, Tensor, Tensor]
]  # of each layer the weights, their blocks on the diagonal (D, out, in), the biases


class _BlockLinear(Linear):
    """Weights (dim * out_units, dim * in_units), biases and the logarithms of the rows' norms."""

    def __init__(self, dim: int, in_units: int, out_units: int) -> None:
        super().__init__(dim * in_units, dim * out_units)
        self.log_scale = nn.Parameter(torch.zeros(dim * out_units))


class BlockAutoregressive(Transform):
    """x_i = alpha g_i(u_<=i, c) + (1 - alpha) u_i,  g a network of tanh layers that is increasing
    in u_i,  alpha = sigmoid(gate).

    Weights are exp(s) W' / |W'|, row by row, with W' = exp(W) between units of one coordinate, and
    W from earlier coordinates.

    Args:
        dim: D.
        hidden: the units of each hidden layer per coordinate.
        order: a permutation of 0, ..., D - 1 (default: 0, 1, ...).
        context_shape: .

    Shapes:
        u and x (*batch, D), context (*batch, *context_shape) -> value (*batch, D) and log-
        determinant (*batch,).

    Cost:
        forward one pass of a network with D * hidden units; inverse about one pass of arithmetic,
        and D root searches in the small networks of single coordinates.

    Raises:
        ValueError: for a size below 1, no hidden layer, or an order that is no permutation.

    References:
        De Cao et al. (2019), arXiv:1904.04676, section 3.

    Example:
        >>> u = torch.randn(7, 3)
        >>> transform = BlockAutoregressive(3)
        >>> x, _ = transform.forward_and_log_det(u)
        >>> torch.allclose(transform.inverse_and_log_det(x)[0], u, atol=1e-5)
        True
    """

    same: Tensor
    earlier: Tensor
    context_weight: Any  # a parameter (units, entries of a context); None without a context

    def __init__(
        self,
        dim: int,
        *,
        hidden: Sequence[int] = (8, 8),
        order: Sequence[int] | None = None,
        context_shape: ContextShape = 0,
    ) -> None:
        super().__init__()
        hidden, order = check_autoregressive(dim, hidden, order, least=1)
        self.context_shape = check_context_shape("context_shape", context_shape)
        entries = context_size(self.context_shape)
        self.order = order
        self.layers = nn.ModuleList(_BlockLinear(dim, a, b) for a, b in pairwise((1, *hidden, 1)))
        limit = 1.0 / sqrt(max(entries, 1))
        self.context_weight = (
            nn.Parameter(uniform_draws((dim * hidden[0], entries), limit)) if entries else None
        )
        self.gate = nn.Parameter(torch.zeros(()))
        ranks = torch.tensor(order).argsort()
        self.register_buffer("same", (ranks[:, None] == ranks)[:, None, :, None], persistent=False)
        self.register_buffer(
            "earlier", (ranks[:, None] > ranks)[:, None, :, None], persistent=False
        )

    @property
    def inverse_cost(self) -> str:
        """What `inverse_and_log_det` costs."""
        return f"one pass in {len(self.order)} steps of root search"

    def forward_and_log_det(
        self, u: Tensor, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """x = f(u; c) and log |det dx/du|."""
        x, log_slope = self._map(self._layers(context), u)
        return x, log_slope.sum(-1)

    def inverse_and_log_det(
        self, x: Tensor, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """u = f^-1(x; c) and log |det du/dx|."""
        given = batch_shape_of(context, self.context_shape)
        x = x.expand(*torch.broadcast_shapes(x.shape[:-1], given), -1)
        if in_torch_func():
            u = self._search_by_passes(x, context)
            return u, -self.forward_and_log_det(u, context)[1]
        u = self._search(x, context)
        if torch.is_grad_enabled():
            u = _AtRoot.apply(
                x - self.forward_and_log_det(u, context)[0],
                u,
                partial(self._substitute, u, context),
            )
        return u, -self.forward_and_log_det(u, context)[1]

    def _layers(self, context: Tensor | None) -> _Layers:
        dim, found = len(self.order), []
        layers: list[Any] = list(self.layers)
        for layer in layers:
            weight = layer.weight.unflatten(1, (dim, -1)).unflatten(0, (dim, -1))  # (D, out, D, in)
            weight = (
                torch.where(self.same, weight.exp(), torch.where(self.earlier, weight, 0.0))
                .flatten(2)
                .flatten(0, 1)
            )
            weight = weight * (layer.log_scale.exp() / weight.norm(dim=-1))[:, None]
            blocks = (
                weight.unflatten(1, (dim, -1))
                .unflatten(0, (dim, -1))
                .diagonal(dim1=0, dim2=2)
                .movedim(-1, 0)
            )
            found.append((weight, blocks, layer.bias))
        if context is not None:
            weight, blocks, bias = found[0]
            found[0] = (
                weight,
                blocks,
                bias + F.linear(flat(context, self.context_shape), self.context_weight),
            )
        return found

    def _map(self, layers: _Layers, u: Tensor) -> tuple[Tensor, Tensor]:
        """x and log dx_i/du_i (*batch, D)."""
        values, slopes = _network(layers, u)
        alpha, rest = torch.sigmoid(self.gate), torch.sigmoid(-self.gate)
        return alpha * values[-1] + rest * u, (alpha * slopes[-1][..., 0] + rest).log()

    def _search_by_passes(self, x: Tensor, context: Tensor | None) -> Tensor:
        """u, coordinate by coordinate, by passes of ordinary operations through the network."""
        layers = self._layers(context)
        alpha, rest = torch.sigmoid(self.gate), torch.sigmoid(-self.gate)
        u, places = torch.zeros_like(x), torch.arange(x.shape[-1], device=x.device)
        for i in self.order:

            def own(v: Tensor, i: int = i, u: Tensor = u) -> tuple[Tensor, Tensor]:
                value, slope = self._map(layers, torch.where(places == i, v[..., None], u))
                return value[..., i], slope[..., i]

            target = x[..., i] - own(torch.zeros_like(x[..., i]))[0]  # the network moves by `reach`
            reach = 2 * alpha * layers[-1][1][i].sum()
            v = increasing_root(own, x[..., i], (target - reach) / rest, (target + reach) / rest)
            u = torch.where(places == i, v[..., None], u)
        return u

    @torch.no_grad()
    def _search(self, x: Tensor, context: Tensor | None) -> Tensor:
        """u, coordinate by coordinate."""
        layers = self._layers(context)
        alpha, rest = torch.sigmoid(self.gate), torch.sigmoid(-self.gate)
        values = [
            x.new_zeros(*x.shape[:-1], weight.shape[1]) for weight, _, _ in layers
        ]  # u and the hidden layers
        for i in self.order:
            own = []  # the network of u_i, the earlier coordinates in its biases
            for value, (weight, blocks, bias) in zip(values, layers):
                rows = slice(i * blocks.shape[1], (i + 1) * blocks.shape[1])
                own.append(
                    (blocks[i], blocks[i : i + 1], bias[..., rows] + F.linear(value, weight[rows]))
                )
            target, reach = x[..., i : i + 1] - alpha * own[-1][2], alpha * own[-1][0].sum()
            v = increasing_root(
                partial(self._map, own),
                x[..., i : i + 1],
                (target - reach) / rest,
                (target + reach) / rest,
            )
            for value, new in zip(values, _network(own, v)[0]):
                value[..., i * new.shape[-1] : (i + 1) * new.shape[-1]] = new
        return values[0]

    @torch.no_grad()
    def _substitute(self, u: Tensor, context: Tensor | None, g: Tensor) -> Tensor:
        """lambda with J' lambda = g, for the Jacobian J = dx/du, coordinate by coordinate from the
        last to the first.
        """
        layers = self._layers(context)
        values, slopes = _network(layers, u)
        alpha, rest = torch.sigmoid(self.gate), torch.sigmoid(-self.gate)
        found = torch.zeros_like(u)
        cotangents = [
            torch.zeros_like(value) for value in values[1:]
        ]  # of what goes into tanh, and of g
        for i in reversed(self.order):
            columns = [
                slice(i * blocks.shape[2], (i + 1) * blocks.shape[2]) for _, blocks, _ in layers
            ]
            # What the units of later coordinates pass to those of this one; those pass it on to u_i
            # by their slopes.
            later = [
                cotangent @ weight[:, here]
                for cotangent, (weight, _, _), here in zip(cotangents, layers, columns)
            ]
            passed = sum((part * slope[..., i, :]).sum(-1) for part, slope in zip(later, slopes))
            found[..., i] = (g[..., i] - passed) / (alpha * slopes[-1][..., i, 0] + rest)
            cotangents[-1][..., i] = alpha * found[..., i]
            known = cotangents[-1][..., i : i + 1]
            for l in reversed(range(1, len(layers))):
                known = (later[l] + known @ layers[l][1][i]) * (1 - values[l][..., columns[l]] ** 2)
                cotangents[l - 1][..., columns[l]] = known
        return found


class _AtRoot(torch.autograd.Function):
    """u, as a function of residual = x - f(u) with fixed u: du = J^-1 dresidual."""

    @staticmethod
    def forward(
        ctx: Any, residual: Tensor, u: Tensor, substitute: Callable[[Tensor], Tensor]
    ) -> Tensor:
        ctx.substitute = substitute
        u = u.clone()
        ctx.save_for_backward(u)
        return u

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:
        return *Once.apply(*ctx.saved_tensors, ctx.substitute(g)), None, None


def _network(layers: _Layers, u: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """The values of u, hidden layers and output (*batch, D * units), and their slopes in the
    coordinate that they belong to (*batch, D, units).
    """
    values, slopes = [u], [torch.ones_like(u)[..., None]]
    for index, (weight, blocks, bias) in enumerate(layers):
        value = values[-1] @ weight.T + bias
        slope = torch.einsum("dij,...dj->...di", blocks, slopes[-1])
        if index + 1 < len(layers):
            value = value.tanh()
            slope = slope * (1 - value**2).unflatten(-1, slope.shape[-2:])
        values.append(value)
        slopes.append(slope)
    return values, slopes


class BNAF(Flow):
    """Block neural autoregressive flow: a stack of `BlockAutoregressive` transforms as a density,
    the order of the coordinates reversed from one to the next.

    Args:
        dim: D.
        context_shape: 0 = unconditional.
        num_layers: the number of layers.
        hidden: the units of each hidden layer per coordinate.
        base: as in `Flow`.

    Shapes:
        context (*batch, *context_shape) -> batch_shape (*batch,), event_shape (D,). Cost, of each
        layer: log_prob one pass; draws about one pass of arithmetic in D steps, with a root search
        at each.

    Raises:
        ValueError: if num_layers < 1, and as `BlockAutoregressive` does.

    References:
        De Cao et al. (2019), arXiv:1904.04676.

    Example:
        >>> BNAF(3)().log_prob(torch.zeros(7, 3)).shape
        torch.Size([7])
    """

    def __init__(
        self,
        dim: int,
        *,
        context_shape: ContextShape = 0,
        num_layers: int = 5,
        hidden: Sequence[int] = (8, 8),
        base: Conditional | None = None,
    ) -> None:
        layers = [
            BlockAutoregressive(
                dim,
                hidden=hidden,
                order=range(dim)[::-1] if index % 2 else None,
                context_shape=context_shape,
            )
            for index in range(check_count("num_layers", num_layers))
        ]
        super().__init__(
            dim, [Inverse(layer) for layer in layers], context_shape=context_shape, base=base
        )
        self.hidden = tuple(hidden)

    def _sizes(self) -> tuple[str, ...]:
        return f"num_layers={len(self.transforms)}", f"hidden={self.hidden}"
