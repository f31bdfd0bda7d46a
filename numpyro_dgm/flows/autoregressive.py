"""Autoregressive flows: w_i = h(v_i; raw_i(v_<i, c)), one masked network per layer.

The map from v to w takes one pass, with its log-determinant sum_i log dh/dv_i, since the Jacobian
is triangular.  Read as u -> x it is an IAF, which draws in one pass; read as x -> u it is a MAF,
which scores in one pass.  The other direction of either takes about the arithmetic of one pass, in
D steps.
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import equinox as eqx
import jax
from jax import Array

from dgm_core.arguments import check_count, check_instance
from dgm_core.contexts import ContextShape
from numpyro_dgm.conditionals import Conditional
from numpyro_dgm.flows.flow import Flow
from numpyro_dgm.flows.made import MADE
from numpyro_dgm.flows.scalar import Affine, ScalarMap
from numpyro_dgm.flows.transform import Inverse, Transform

__all__ = ["IAF", "MAF", "Autoregressive"]


class Autoregressive(Transform):
    """A masked autoregressive transform:  x_i = h(u_i; raw_i(u_<i, c)),  raw from a `MADE`.

    Args:
        dim: D.
        scalar: the map h (default `Affine()`); the others as in `MADE`.

    Shapes:
        u and x (*batch, D), context (*batch, *context_shape) -> value (*batch, D) and log-
        determinant (*batch,).

    Cost:
        forward one pass; inverse about one pass of arithmetic in D steps, times what the scalar
        map's inverse costs.

    Raises:
        ValueError: as `MADE` does.

    Example:
        >>> u = jax.random.normal(jax.random.key(0), (7, 3))
        >>> transform = Autoregressive(3, key=jax.random.key(0))
        >>> x, _ = transform.forward_and_log_det(u)
        >>> bool(jax.numpy.allclose(transform.inverse_and_log_det(x)[0], u, atol=1e-5))
        True
    """

    scalar: ScalarMap = eqx.field(static=True)
    made: MADE

    def __init__(
        self,
        dim: int,
        scalar: ScalarMap | None = None,
        *,
        hidden: Sequence[int] = (64, 64),
        order: Sequence[int] | None = None,
        context_shape: ContextShape = 0,
        activation: str = "relu",
        key: Array,
    ) -> None:
        scalar = Affine() if scalar is None else scalar
        self.scalar = check_instance("scalar", scalar, ScalarMap, "a scalar map such as Affine()")
        self.made = MADE(
            dim,
            self.scalar.num_params,
            hidden=hidden,
            order=order,
            context_shape=context_shape,
            activation=activation,
            key=key,
        )

    @property
    def context_shape(self) -> tuple[Any, ...]:
        """The shape of its context."""
        return self.made.context_shape

    @property
    def inverse_cost(self) -> str:
        """What `inverse_and_log_det` costs."""
        steps = f"one pass in {self.made.masking.dim} steps"
        return (
            steps
            if self.scalar.inverse_cost == "closed form"
            else f"{steps} of {self.scalar.inverse_cost}"
        )

    def forward_and_log_det(self, u: Array, context: Array | None = None) -> tuple[Array, Array]:
        """x = f(u; c) and log |det dx/du|."""
        x, log_slope = self.scalar(u, self.made(u, context))
        return x, log_slope.sum(-1)

    def inverse_and_log_det(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        """u = f^-1(x; c) and log |det du/dx|."""
        return self.made.solve(x, self.scalar, context)

    def __repr__(self) -> str:
        return f"Autoregressive({self.scalar}, {self.made})"


class AutoregressiveFlow(Flow):
    """A stack of autoregressive transforms, one for each scalar map, or of their inverses, the
    order of the coordinates reversed from one to the next.
    """

    hidden: tuple[int, ...] = eqx.field(static=True)

    def __init__(
        self,
        dim: int,
        scalars: Sequence[ScalarMap],
        direction: Callable[[Transform], Transform],
        context_shape: ContextShape,
        hidden: Sequence[int],
        activation: str,
        base: Conditional | None,
        *,
        key: Array,
    ) -> None:
        base_key, *keys = jax.random.split(key, len(scalars) + 1)
        layers = [
            Autoregressive(
                dim,
                scalar,
                hidden=hidden,
                order=range(dim)[::-1] if index % 2 else None,
                context_shape=context_shape,
                activation=activation,
                key=k,
            )
            for index, (scalar, k) in enumerate(zip(scalars, keys))
        ]
        super().__init__(
            dim,
            [direction(layer) for layer in layers],
            context_shape=context_shape,
            base=base,
            key=base_key,
        )
        self.hidden = tuple(hidden)

    def _sizes(self) -> tuple[str, ...]:
        return f"num_layers={len(self.transforms)}", f"hidden={self.hidden}"


def _itself(transform: Transform) -> Transform:
    return transform


class _Affine(AutoregressiveFlow):
    """A stack of affine maps, in one direction or the other."""

    _inverted: ClassVar[bool]

    def __init__(
        self,
        dim: int,
        *,
        context_shape: ContextShape = 0,
        num_layers: int = 5,
        hidden: Sequence[int] = (64, 64),
        activation: str = "relu",
        base: Conditional | None = None,
        key: Array,
    ) -> None:
        scalars = [Affine()] * check_count("num_layers", num_layers)
        direction = Inverse if self._inverted else _itself
        super().__init__(dim, scalars, direction, context_shape, hidden, activation, base, key=key)


class MAF(_Affine):
    """Masked autoregressive flow, the density p(x | c) of x in R^D:  layer by layer u_i = m_i(x_<i,
    c) + exp(a_i(x_<i, c)) x_i,  noise ~ Normal(0, I).

    log p(x | c) = log p(noise) + sum_layers sum_i a_i.

    Args:
        dim: D.
        context_shape: 0 = unconditional.
        num_layers: the order of the coordinates is reversed from one to the next.
        hidden, activation: of each layer's network.
        base: as in `Flow`.

    Shapes:
        context (*batch, *context_shape) -> batch_shape (*batch,), event_shape (D,). Cost, of each
        layer: log_prob one pass; draws about one pass of arithmetic in D steps.

    Raises:
        ValueError: if num_layers < 1, and as `MADE` does.

    References:
        Papamakarios et al. (2017), arXiv:1705.07057.

    Example:
        >>> MAF(3, key=jax.random.key(0))().log_prob(jax.numpy.zeros((7, 3))).shape
        (7,)
    """

    _inverted = True


class IAF(_Affine):
    """Inverse autoregressive flow, which draws x in R^D in one pass:  layer by layer x_i =
    m_i(u_<i, c) + exp(a_i(u_<i, c)) u_i,  noise ~ Normal(0, I).

    log p(x | c) = log p(noise) - sum_layers sum_i a_i.

    Args:
        as for `MAF`.

    Shapes:
        context (*batch, *context_shape) -> batch_shape (*batch,), event_shape (D,). Cost, of each
        layer: draws with their log-density one pass; log_prob of any other value about one pass of
        arithmetic in D steps.

    Raises:
        ValueError: if num_layers < 1, and as `MADE` does.

    References:
        Kingma et al. (2016), arXiv:1606.04934.

    Example:
        >>> iaf = IAF(3, key=jax.random.key(0))
        >>> x, log_prob = iaf().rsample_and_log_prob(jax.random.key(0), (7,))
        >>> x.shape, log_prob.shape
        ((7, 3), (7,))
    """

    _inverted = False
