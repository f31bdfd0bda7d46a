"""Coupling flows: one half of a vector is mapped entry by entry, with parameters that a network
reads off the other half; halves take turns.

Both directions cost one pass. A coupling is an autoregressive transform with two blocks: its
Jacobian is triangular.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

from dgm_core.arguments import check_count, check_flag, check_instance
from dgm_core.contexts import ContextShape, check_context_shape, context_size
from numpyro_dgm.conditionals import Conditional
from numpyro_dgm.flows.flow import Flow
from numpyro_dgm.flows.linear import LU, Diagonal
from numpyro_dgm.flows.scalar import Affine, ScalarMap, Shift, Spline
from numpyro_dgm.flows.transform import Transform
from numpyro_dgm.nn import MLP
from numpyro_dgm.nn.contexts import flat

__all__ = ["NICE", "NSF", "Coupling", "RealNVP"]


class Coupling(Transform):
    """u_i = x_i in one half;  u_i = h(x_i; raw_i),  raw = network(x_kept, c), in the other.

    As in a masked autoregressive flow the network reads the data's side; it is equal on both sides,
    so neither direction is slow.

    Args:
        dim: D.
        scalar: the map h.
        context_shape: of the context (0 = none).
        hidden, activation: of the network.
        swap: keep the second half (the last D - D // 2 entries) and map the first, instead of the
            other way round.

    Shapes:
        u and x (*batch, D), context (*batch, *context_shape); log-determinants (*batch,).

    Cost:
        one pass of the network in each direction, and what the scalar map costs.

    Raises:
        ValueError: if dim < 2.

    References:
        Dinh et al. (2017), arXiv:1605.08803, eqs. (4) to (8).

    Example:
        >>> x, log_det = Coupling(3, key=jax.random.key(0)).forward_and_log_det(jnp.zeros((5, 3)))
        >>> x.shape, log_det.shape
        ((5, 3), (5,))
    """

    scalar: ScalarMap = eqx.field(static=True)
    first: int = eqx.field(static=True)
    swap: bool = eqx.field(static=True)
    context_shape: tuple[Any, ...] = eqx.field(static=True)
    network: MLP

    def __init__(
        self,
        dim: int,
        scalar: ScalarMap = Affine(),  # noqa: B008, it is frozen
        *,
        context_shape: ContextShape = 0,
        hidden: Sequence[int] = (64, 64),
        activation: str = "relu",
        swap: bool = False,
        key: Array,
    ) -> None:
        dim = check_count("dim", dim, 2)
        check_instance("scalar", scalar, ScalarMap, "a scalar map such as Affine()")
        self.scalar, self.first, self.swap, self.context_shape = (
            scalar,
            dim // 2,
            check_flag("swap", swap),
            check_context_shape("context_shape", context_shape),
        )
        kept = dim - self.first if swap else self.first
        network = MLP(
            kept + context_size(context_shape),
            hidden,
            (dim - kept) * scalar.num_params,
            activation=activation,
            key=key,
        )
        last = jax.tree.map(
            lambda weight: 0.01 * weight, network.layers[-1]
        )  # near raw = 0, which is the identity for most scalar maps
        self.network = eqx.tree_at(lambda network: network.layers[-1], network, last)

    @property
    def forward_cost(self) -> str:
        """What `forward_and_log_det` costs."""
        return (
            "one pass"
            if self.scalar.inverse_cost == "closed form"
            else f"one pass and a {self.scalar.inverse_cost}"
        )

    def forward_and_log_det(self, u: Array, context: Array | None = None) -> tuple[Array, Array]:
        """x = f(u; c) and log |det dx/du|."""
        kept, mapped, raw = self._halves(u, context)
        mapped, log_slope = self.scalar.invert(mapped, raw)
        return self._whole(kept, mapped), log_slope.sum(-1)

    def inverse_and_log_det(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        """u = f^-1(x; c) and log |det du/dx|."""
        kept, mapped, raw = self._halves(x, context)
        mapped, log_slope = self.scalar(mapped, raw)
        return self._whole(kept, mapped), log_slope.sum(-1)

    def _halves(self, value: Array, context: Array | None) -> tuple[Array, Array, Array]:
        """The half that is kept, the one that is mapped, and the parameters of the map."""
        kept, mapped = value[..., : self.first], value[..., self.first :]
        if self.swap:
            kept, mapped = mapped, kept
        features = kept
        if context is not None and self.context_shape:
            context = flat(context, self.context_shape)
            batch_shape = jnp.broadcast_shapes(value.shape[:-1], context.shape[:-1])
            kept = jnp.broadcast_to(kept, (*batch_shape, kept.shape[-1]))
            features = jnp.concatenate(
                [kept, jnp.broadcast_to(context, (*batch_shape, context.shape[-1]))], -1
            )
        raw = self.network(features)
        return kept, mapped, raw.reshape(*raw.shape[:-1], -1, self.scalar.num_params)

    def _whole(self, kept: Array, mapped: Array) -> Array:
        return jnp.concatenate([mapped, kept] if self.swap else [kept, mapped], -1)


def _couplings(
    dim: int,
    scalar: ScalarMap,
    num_layers: int,
    context_shape: ContextShape,
    hidden: Sequence[int],
    activation: str,
    key: Array,
) -> list[Transform]:
    """Couplings in which halves take turns."""
    keys = jax.random.split(key, check_count("num_layers", num_layers))
    return [
        Coupling(
            dim,
            scalar,
            context_shape=context_shape,
            hidden=hidden,
            activation=activation,
            swap=i % 2 == 1,
            key=k,
        )
        for i, k in enumerate(keys)
    ]


class _CouplingFlow(Flow):
    """A flow with couplings, whose networks have the sizes `hidden`."""

    num_layers: int = eqx.field(static=True)
    hidden: tuple[int, ...] = eqx.field(static=True)

    def __init__(
        self,
        dim: int,
        transforms: Sequence[Transform],
        num_layers: int,
        hidden: Sequence[int],
        context_shape: ContextShape,
        base: Conditional | None,
        *,
        key: Array,
    ) -> None:
        super().__init__(dim, transforms, context_shape=context_shape, base=base, key=key)
        self.num_layers, self.hidden = num_layers, tuple(hidden)

    def _sizes(self) -> tuple[str, ...]:
        return f"num_layers={self.num_layers}", f"hidden={self.hidden}"


class NICE(_CouplingFlow):
    """Additive couplings, which keep volumes, under a diagonal scaling:  x = exp(s) g(u),  log |det
    dx/du| = sum_i s_i.

    Args:
        dim: D, at least 2.
        context_shape: 0 = unconditional.
        num_layers: couplings.
        hidden, activation: of their networks.
        base: as in `Flow`.

    Shapes:
        context (*batch, *context_shape) -> batch_shape (*batch,), event_shape (D,).

    Cost:
        one pass in each direction.

    Raises:
        ValueError: if dim < 2 or num_layers < 1.

    References:
        Dinh et al. (2014), arXiv:1410.8516.

    Example:
        >>> NICE(4, key=jax.random.key(0))().sample(jax.random.key(1), (5,)).shape
        (5, 4)
    """

    def __init__(
        self,
        dim: int,
        *,
        context_shape: ContextShape = 0,
        num_layers: int = 8,
        hidden: Sequence[int] = (64, 64),
        activation: str = "relu",
        base: Conditional | None = None,
        key: Array,
    ) -> None:
        key_base, key = jax.random.split(key)
        couplings = _couplings(dim, Shift(), num_layers, context_shape, hidden, activation, key)
        parts = [*couplings, Diagonal(dim)]
        super().__init__(dim, parts, num_layers, hidden, context_shape, base, key=key_base)


class RealNVP(_CouplingFlow):
    """Affine couplings, in which halves take turns:  u_i = m_i(x_kept, c) + exp(a_i(x_kept, c))
    x_i.

    Args:
        dim: D, at least 2.
        context_shape: 0 = unconditional.
        num_layers: couplings.
        hidden, activation: of their networks.
        base: as in `Flow`.

    Shapes:
        context (*batch, *context_shape) -> batch_shape (*batch,), event_shape (D,).

    Cost:
        one pass in each direction.

    Raises:
        ValueError: if dim < 2 or num_layers < 1.

    References:
        Dinh et al. (2017), arXiv:1605.08803.

    Example:
        >>> RealNVP(4, key=jax.random.key(0))().sample(jax.random.key(1), (5,)).shape
        (5, 4)
    """

    def __init__(
        self,
        dim: int,
        *,
        context_shape: ContextShape = 0,
        num_layers: int = 8,
        hidden: Sequence[int] = (64, 64),
        activation: str = "relu",
        base: Conditional | None = None,
        key: Array,
    ) -> None:
        key_base, key = jax.random.split(key)
        couplings = _couplings(dim, Affine(), num_layers, context_shape, hidden, activation, key)
        super().__init__(dim, couplings, num_layers, hidden, context_shape, base, key=key_base)


class NSF(_CouplingFlow):
    """Neural spline flow with couplings: monotone rational-quadratic splines, and between them
    learned linear maps.

    Args:
        dim: D, at least 2.
        context_shape: 0 = unconditional.
        num_layers: couplings.
        num_bins, bound: of the splines, which are the identity outside [-bound, bound].
        hidden, activation: of the networks.
        base: as in `Flow`.

    Shapes:
        context (*batch, *context_shape) -> batch_shape (*batch,), event_shape (D,).

    Cost:
        one pass in each direction, and two triangular systems in one of them.

    Raises:
        ValueError: if dim < 2, num_layers < 1, num_bins < 2 or bound is not positive.

    References:
        Durkan et al. (2019), arXiv:1906.04032, RQ-NSF (C).

    Example:
        >>> NSF(4, key=jax.random.key(0))().sample(jax.random.key(1), (5,)).shape
        (5, 4)
    """

    def __init__(
        self,
        dim: int,
        *,
        context_shape: ContextShape = 0,
        num_layers: int = 8,
        num_bins: int = 8,
        bound: float = 5.0,
        hidden: Sequence[int] = (64, 64),
        activation: str = "relu",
        base: Conditional | None = None,
        key: Array,
    ) -> None:
        key_base, key = jax.random.split(key)
        couplings = _couplings(
            dim, Spline(num_bins, bound), num_layers, context_shape, hidden, activation, key
        )
        mixed = chain.from_iterable((coupling, LU(dim)) for coupling in couplings)
        parts = list(mixed)
        super().__init__(dim, parts, num_layers, hidden, context_shape, base, key=key_base)
