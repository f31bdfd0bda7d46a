"""Skewness and weight of the tails, coordinate by coordinate: what no affine layer changes."""

import jax.numpy as jnp
from jax import Array
from jax.nn import log_sigmoid

from dgm_core.arguments import check_count
from numpyro_dgm.flows.transform import Transform

__all__ = ["SinhArcsinh"]


class SinhArcsinh(Transform):
    """x_i = sinh(p_i (asinh(u_i) + e_i)),  p = 2 / (1 + exp(-2 t)).

    Far out |x| grows as |u|^p: of normal noise the tails are heavier for p > 1, at most
    exponential (p = 2), and lighter for p < 1; e > 0 leans them to the right.  It starts as the
    identity.  As the last layer of a flow it lets the ends of a posterior be other than the
    noise's, so that importance weights stay bounded where affine layers leave too little mass.

    Args:
        dim: D.

    Attributes:
        skewness: (D,), e.
        tail: (D,), t.

    Shapes:
        u and x (*batch, D).

    Raises:
        ValueError: if dim < 1.

    References:
        Jones and Pewsey (2009), Sinh-arcsinh distributions, Biometrika 96; Jaini et al. (2020),
        Tails of Lipschitz triangular flows, arXiv:1907.04481.

    Example:
        >>> SinhArcsinh(2).forward_and_log_det(jnp.array([0.0, 3.0]))[0].round(4)
        Array([0., 3.], dtype=float32)
    """

    skewness: Array
    tail: Array

    def __init__(self, dim: int) -> None:
        dim = check_count("dim", dim)
        self.skewness, self.tail = jnp.zeros(dim), jnp.zeros(dim)

    def forward_and_log_det(self, u: Array, context: Array | None = None) -> tuple[Array, Array]:
        """x = f(u) and log |det dx/du|."""
        log_power = self._log_power()
        inner = jnp.arcsinh(u)
        outer = jnp.exp(log_power) * (inner + self.skewness)
        x = jnp.sinh(outer)
        return x, (log_power + _log_cosh(x) - _log_cosh(u)).sum(-1)

    def inverse_and_log_det(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        """u = f^-1(x) and log |det du/dx|."""
        log_power = self._log_power()
        outer = jnp.arcsinh(x)
        inner = outer * jnp.exp(-log_power) - self.skewness
        u = jnp.sinh(inner)
        return u, (_log_cosh(u) - _log_cosh(x) - log_power).sum(-1)

    def _log_power(self) -> Array:
        return jnp.log(2.0) + log_sigmoid(2.0 * self.tail)


def _log_cosh(x: Array) -> Array:
    """log cosh asinh x."""
    return 0.5 * jnp.log1p(x * x)
