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

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from math import sqrt
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.lax import dynamic_slice_in_dim, dynamic_update_slice_in_dim
from jax.nn import sigmoid

from dgm_core.arguments import check_count
from dgm_core.contexts import ContextShape, check_context_shape, context_size
from dgm_core.masks import check_autoregressive
from numpyro_dgm.conditionals import Conditional
from numpyro_dgm.flows.flow import Flow
from numpyro_dgm.flows.roots import increasing_root
from numpyro_dgm.flows.transform import Inverse, Transform
from numpyro_dgm.nn import Linear
from numpyro_dgm.nn.contexts import batch_shape_of, flat
from numpyro_dgm.nn.initial import placed, uniform_draws

__all__ = ["BNAF", "BlockAutoregressive"]

_Layers = list[
    tuple[Array, Array, Array]
]  # of each layer the weights, their blocks on the diagonal (D, out, in), the biases


class _BlockLinear(Linear):
    """Weights (dim * out_units, dim * in_units), biases and the logarithms of the rows' norms."""

    log_scale: Array

    def __init__(self, dim: int, in_units: int, out_units: int, *, key: Array) -> None:
        super().__init__(dim * in_units, dim * out_units, key=key)
        self.log_scale = jnp.zeros(dim * out_units)


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
        >>> u = jax.random.normal(jax.random.key(0), (7, 3))
        >>> transform = BlockAutoregressive(3, key=jax.random.key(0))
        >>> x, _ = transform.forward_and_log_det(u)
        >>> bool(jnp.allclose(transform.inverse_and_log_det(x)[0], u, atol=1e-5))
        True
    """

    order: tuple[int, ...] = eqx.field(static=True)
    layers: list[_BlockLinear]
    context_shape: tuple[Any, ...] = eqx.field(static=True)
    context_weight: Any  # an array (units, entries of a context); None without a context
    gate: Array

    def __init__(
        self,
        dim: int,
        *,
        hidden: Sequence[int] = (8, 8),
        order: Sequence[int] | None = None,
        context_shape: ContextShape = 0,
        key: Array,
    ) -> None:
        hidden, order = check_autoregressive(dim, hidden, order, least=1)
        self.context_shape = check_context_shape("context_shape", context_shape)
        entries = context_size(self.context_shape)
        self.order = order
        context_key, *keys = jax.random.split(key, len(hidden) + 2)
        self.layers = [
            _BlockLinear(dim, a, b, key=k) for (a, b), k in zip(pairwise((1, *hidden, 1)), keys)
        ]
        limit = 1.0 / sqrt(max(entries, 1))
        self.context_weight = (
            placed(uniform_draws(context_key, (dim * hidden[0], entries), limit))
            if entries
            else None
        )
        self.gate = jnp.zeros(())

    @property
    def inverse_cost(self) -> str:
        """What `inverse_and_log_det` costs."""
        return f"one pass in {len(self.order)} steps of root search"

    def forward_and_log_det(self, u: Array, context: Array | None = None) -> tuple[Array, Array]:
        """x = f(u; c) and log |det dx/du|."""
        x, log_slope = self._map(self._layers(context), u)
        return x, log_slope.sum(-1)

    def inverse_and_log_det(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        """u = f^-1(x; c) and log |det du/dx|."""
        given = batch_shape_of(context, self.context_shape)
        x = jnp.broadcast_to(x, (*jnp.broadcast_shapes(x.shape[:-1], given), x.shape[-1]))
        u = _invert(self, x, context)
        return u, -self.forward_and_log_det(u, context)[1]

    def _layers(self, context: Array | None) -> _Layers:
        dim, found = len(self.order), []
        ranks = np.argsort(self.order)
        same, earlier = (
            mask[:, None, :, None] for mask in (ranks[:, None] == ranks, ranks[:, None] > ranks)
        )
        for layer in self.layers:
            weight = layer.weight.reshape(
                dim, -1, dim, layer.weight.shape[1] // dim
            )  # (D, out, D, in)
            shape = weight.shape
            weight = jnp.where(same, jnp.exp(weight), jnp.where(earlier, weight, 0.0)).reshape(
                layer.weight.shape
            )
            weight = weight * (jnp.exp(layer.log_scale) / jnp.linalg.norm(weight, axis=-1))[:, None]
            found.append(
                (
                    weight,
                    jnp.moveaxis(jnp.diagonal(weight.reshape(shape), axis1=0, axis2=2), -1, 0),
                    layer.bias,
                )
            )
        if context is not None:
            weight, blocks, bias = found[0]
            found[0] = (
                weight,
                blocks,
                bias + flat(context, self.context_shape) @ self.context_weight.T,
            )
        return found

    def _map(self, layers: _Layers, u: Array) -> tuple[Array, Array]:
        """x and log dx_i/du_i (*batch, D)."""
        values, slopes = _network(layers, u)
        alpha, rest = sigmoid(self.gate), sigmoid(-self.gate)
        return alpha * values[-1] + rest * u, jnp.log(alpha * slopes[-1][..., 0] + rest)

    def _search(self, x: Array, context: Array | None) -> Array:
        """u, coordinate by coordinate."""
        layers = self._layers(context)
        alpha, rest = sigmoid(self.gate), sigmoid(-self.gate)

        def step(values: list[Array], i: Array) -> tuple[list[Array], None]:
            own = []  # the network of u_i, the earlier coordinates in its biases
            for value, (weight, blocks, bias) in zip(values, layers):
                size = blocks.shape[1]
                pre = (
                    dynamic_slice_in_dim(bias, i * size, size, -1)
                    + value @ dynamic_slice_in_dim(weight, i * size, size).T
                )
                own.append((blocks[i], blocks[i][None], pre))
            here = dynamic_slice_in_dim(x, i, 1, -1)
            target, reach = here - alpha * own[-1][2], alpha * own[-1][0].sum()
            v = increasing_root(
                partial(self._map, own), here, (target - reach) / rest, (target + reach) / rest
            )
            new = zip(values, _network(own, v)[0])
            return [
                dynamic_update_slice_in_dim(value, part, i * part.shape[-1], -1)
                for value, part in new
            ], None

        empty = [
            jnp.zeros((*x.shape[:-1], weight.shape[1]), x.dtype) for weight, _, _ in layers
        ]  # u and the hidden layers
        return jax.lax.scan(step, empty, jnp.array(self.order))[0][0]

    def _substitute(self, u: Array, context: Array | None, g: Array) -> Array:
        """lambda with J' lambda = g, for the Jacobian J = dx/du, coordinate by coordinate from the
        last to the first.
        """
        layers = self._layers(context)
        values, slopes = _network(layers, u)
        alpha, rest = sigmoid(self.gate), sigmoid(-self.gate)

        def step(
            carry: tuple[Array, list[Array]], i: Array
        ) -> tuple[tuple[Array, list[Array]], None]:
            found, cotangents = carry[0], list(carry[1])
            sizes = [blocks.shape[2] for _, blocks, _ in layers]
            # What the units of later coordinates pass to those of this one; those pass it on to u_i
            # by their slopes.
            parts = zip(cotangents, layers, sizes)
            later = [
                cotangent @ dynamic_slice_in_dim(weight, i * size, size, 1)
                for cotangent, (weight, _, _), size in parts
            ]
            own = [jnp.take(slope, i, -2) for slope in slopes]
            passed = sum((part * slope).sum(-1, keepdims=True) for part, slope in zip(later, own))
            value = (dynamic_slice_in_dim(g, i, 1, -1) - passed) / (alpha * own[-1] + rest)
            known = alpha * value
            cotangents[-1] = dynamic_update_slice_in_dim(cotangents[-1], known, i, -1)
            for l in reversed(range(1, len(layers))):
                known = (later[l] + known @ layers[l][1][i]) * (
                    1 - dynamic_slice_in_dim(values[l], i * sizes[l], sizes[l], -1) ** 2
                )
                cotangents[l - 1] = dynamic_update_slice_in_dim(
                    cotangents[l - 1], known, i * sizes[l], -1
                )
            return (dynamic_update_slice_in_dim(found, value, i, -1), cotangents), None

        empty = (
            jnp.zeros_like(u),
            [jnp.zeros_like(value) for value in values[1:]],
        )  # and the cotangents of what goes into tanh, and of g
        return jax.lax.scan(step, empty, jnp.array(self.order[::-1]))[0][0]


@jax.custom_jvp
def _invert(transform: BlockAutoregressive, x: Array, context: Array | None) -> Array:
    return transform._search(x, context)


@_invert.defjvp
def _tangent(primals: Any, tangents: Any) -> tuple[Array, Array]:
    """du = J^-1 (dx - df), df what the parameters and the context change at fixed u."""
    (transform, x, context), (d_transform, dx, d_context) = primals, tangents
    u = _invert(transform, x, context)
    _, df = jax.jvp(
        lambda transform, context: transform.forward_and_log_det(u, context)[0],
        (transform, context),
        (d_transform, d_context),
    )

    def jacobian(du: Array) -> Array:
        return jax.jvp(lambda u: transform.forward_and_log_det(u, context)[0], (u,), (du,))[1]

    def transposed_solution(_: Any, g: Array) -> Array:
        return transform._substitute(u, context, g)

    def solution(_: Any, b: Array) -> Array:
        return jax.linear_transpose(partial(transform._substitute, u, context), b)(b)[0]

    return u, jax.lax.custom_linear_solve(jacobian, dx - df, solution, transposed_solution)


def _network(layers: _Layers, u: Array) -> tuple[list[Array], list[Array]]:
    """The values of u, hidden layers and output (*batch, D * units), and their slopes in the
    coordinate that they belong to (*batch, D, units).
    """
    values, slopes = [u], [jnp.ones_like(u)[..., None]]
    for index, (weight, blocks, bias) in enumerate(layers):
        value = values[-1] @ weight.T + bias
        slope = jnp.einsum("dij,...dj->...di", blocks, slopes[-1])
        if index + 1 < len(layers):
            value = jnp.tanh(value)
            slope = slope * (1 - value**2).reshape(*value.shape[:-1], *slope.shape[-2:])
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
        >>> BNAF(3, key=jax.random.key(0))().log_prob(jnp.zeros((7, 3))).shape
        (7,)
    """

    hidden: tuple[int, ...] = eqx.field(static=True)

    def __init__(
        self,
        dim: int,
        *,
        context_shape: ContextShape = 0,
        num_layers: int = 5,
        hidden: Sequence[int] = (8, 8),
        base: Conditional | None = None,
        key: Array,
    ) -> None:
        base_key, *keys = jax.random.split(key, check_count("num_layers", num_layers) + 1)
        layers = [
            BlockAutoregressive(
                dim,
                hidden=hidden,
                order=range(dim)[::-1] if index % 2 else None,
                context_shape=context_shape,
                key=k,
            )
            for index, k in enumerate(keys)
        ]
        super().__init__(
            dim,
            [Inverse(layer) for layer in layers],
            context_shape=context_shape,
            base=base,
            key=base_key,
        )
        self.hidden = tuple(hidden)

    def _sizes(self) -> tuple[str, ...]:
        return f"num_layers={len(self.transforms)}", f"hidden={self.hidden}"
