"""Planar flows: each layer stretches or squeezes space across one hyperplane."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

from dgm_core.arguments import check_count
from dgm_core.contexts import ContextShape
from numpyro_dgm.conditionals import Conditional, positive
from numpyro_dgm.flows.context_linear.base import ParametricTransform
from numpyro_dgm.flows.flow import Flow
from numpyro_dgm.flows.roots import increasing_root
from numpyro_dgm.nn.special import sech_squared

__all__ = ["Planar", "PlanarLayer"]


def bend(v: Array, size: Array, slope: Array, shift: Array) -> tuple[Array, Array]:
    """v + size tanh(slope v + shift), increasing in v if size * slope > -1, and its log-slope.

    Example:
        >>> bend(jnp.array(0.0), jnp.array(2.0), jnp.array(1.0), jnp.array(0.0))
        (Array(0., dtype=float32...), Array(1.0986123, dtype=float32...))
    """
    inner = slope * v + shift
    bent = jnp.log1p(size * slope * sech_squared(inner))
    return v + size * jnp.tanh(inner), bent


def unbend(value: Array, size: Array, slope: Array, shift: Array) -> Array:
    """v with `bend(v, size, slope, shift)` = (value, ...), by a safeguarded root search.

    Example:
        >>> unbend(jnp.array(0.0), jnp.array(2.0), jnp.array(1.0), jnp.array(0.0))
        Array(0., dtype=float32...)
    """
    return increasing_root(
        bend, value, value - jnp.abs(size), value + jnp.abs(size), size, slope, shift
    )


class PlanarLayer(ParametricTransform):
    """x = u + v tanh(w'u + b),  log |det dx/du| = log(1 + w'v sech^2(w'u + b)), which is invertible
    for w'v > -1.

    v = v_free + (m - w'v_free) w / |w|^2 has w'v = m = positive(w'v_free) - 1 > -1; v, w and b are
    free or linear in the context.

    Args:
        dim: D.
        context_shape: 0 = free parameters.

    Shapes:
        u and x (*batch, D), context (*batch, *context_shape).

    Cost:
        2 D + 1 parameters; forward 6 D operations; the inverse a root search in one number, w'u.

    References:
        Rezende & Mohamed (2015), arXiv:1505.05770, eqs. (10) to (12) and appendix A.1.
    """

    dim: int = eqx.field(static=True)

    def __init__(self, dim: int, *, context_shape: ContextShape = 0, key: Array) -> None:
        dim = check_count("dim", dim)
        super().__init__(2 * dim + 1, context_shape=context_shape, key=key)
        self.dim = dim

    @property
    def inverse_cost(self) -> str:
        """What `inverse_and_log_det` costs."""
        return "root search"

    def forward_and_log_det(self, u: Array, context: Array | None = None) -> tuple[Array, Array]:
        """x = f(u; c) and log |det dx/du|."""
        v, w, b, m = self.parts(context)
        along = (w * u).sum(-1)
        return u + v * jnp.tanh(along + b)[..., None], bend(along, m, jnp.ones_like(m), b)[1]

    def inverse_and_log_det(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        """u = f^-1(x; c) and log |det du/dx|."""
        v, w, b, m = self.parts(context)
        ones = jnp.ones_like(m)
        along = unbend((w * x).sum(-1), m, ones, b)  # w'x = w'u + w'v tanh(w'u + b)
        return x - v * jnp.tanh(along + b)[..., None], -bend(along, m, ones, b)[1]

    def parts(self, context: Array | None = None) -> tuple[Array, Array, Array, Array]:
        """v (*batch, D), w (*batch, D), b (*batch,) and m = w'v (*batch,)."""
        raw = self.raw(context)
        free, w, b = raw[..., : self.dim], raw[..., self.dim : -1], raw[..., -1]
        product = (w * free).sum(-1)
        m = positive(product, 1e-3) - 1.0  # a slope of at least 1e-3
        square = (w**2).sum(-1).clip(jnp.finfo(w.dtype).tiny)
        return free + ((m - product) / square)[..., None] * w, w, b, m


class Planar(Flow):
    """A stack of planar layers:  u_l = u_{l-1} + v_l tanh(w_l'u_{l-1} + b_l),  w_l'v_l > -1.

    Args:
        dim: D.
        context_shape: 0 = unconditional; else v, w and b are linear in the context.
        num_layers: the number of layers.
        base: as in `Flow`.

    Shapes:
        context (*batch, *context_shape) -> batch_shape (*batch,), event_shape (D,).

    Cost:
        a draw and its density (2 D + 1) num_layers parameters and about 6 D num_layers operations;
        any other value num_layers root searches.

    Raises:
        ValueError: if num_layers < 1.

    References:
        Rezende & Mohamed (2015), arXiv:1505.05770.

    Example:
        >>> Planar(4, key=jax.random.key(0))().sample(jax.random.key(1), (5,)).shape
        (5, 4)
    """

    num_layers: int = eqx.field(static=True)

    def __init__(
        self,
        dim: int,
        *,
        context_shape: ContextShape = 0,
        num_layers: int = 8,
        base: Conditional | None = None,
        key: Array,
    ) -> None:
        key_base, *keys = jax.random.split(key, check_count("num_layers", num_layers) + 1)
        layers = [PlanarLayer(dim, context_shape=context_shape, key=k) for k in keys]
        super().__init__(dim, layers, context_shape=context_shape, base=base, key=key_base)
        self.num_layers = num_layers

    def _sizes(self) -> tuple[str, ...]:
        return (f"num_layers={self.num_layers}",)
