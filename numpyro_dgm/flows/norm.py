"""Batch normalization as a layer of a flow: it keeps what deep flows compute on a common scale."""

import jax.numpy as jnp
from jax import Array

from numpyro_dgm.flows.transform import Transform
from numpyro_dgm.nn import BatchNorm
from numpyro_dgm.nn.layers import EVALUATION

__all__ = ["Normalization"]


class Normalization(Transform):
    """u = weight (x - mean) / sqrt(variance + 1e-5) + bias,  log |det du/dx| = sum_i log |weight_i|
    - log(variance_i + 1e-5) / 2.

    Scoring in training uses the mean and variance of the batch, as if they were constants of the
    transform, and moves the running ones towards them; scoring inside `evaluation_mode`, and
    drawing at all times, use the running ones, so that draws and evaluated densities belong to one
    distribution.

    Args:
        dim: D.

    Attributes:
        norm: a `BatchNorm`.

    Shapes:
        u and x (*batch, D).

    Raises:
        ValueError: if dim < 1, and in training for a batch of one value.

    References:
        Papamakarios et al. (2017), arXiv:1705.07057, section 3.4 (and appendix B); Dinh et al.
        (2017), arXiv:1605.08803, section 3.7.

    Example:
        >>> Normalization(2).inverse_and_log_det(jnp.array([[0.0, 1.0], [2.0, 5.0]]))[0].round(4)
        Array([[-1., -1.],
               [ 1.,  1.]], dtype=float32)
    """

    norm: BatchNorm

    def __init__(self, dim: int) -> None:
        self.norm = BatchNorm(dim)

    def forward_and_log_det(self, u: Array, context: Array | None = None) -> tuple[Array, Array]:
        """x = f(u) and log |det dx/du|."""
        stored = self.norm.state
        x = (u - self.norm.bias) / self.norm.weight * jnp.sqrt(
            stored["running_var"] + 1e-5
        ) + stored["running_mean"]
        return x, -self._log_det(stored["running_var"])

    def inverse_and_log_det(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        """u = f^-1(x) and log |det du/dx|."""
        u = self.norm(x)
        variance = (
            self.norm.state["running_var"] if EVALUATION.get() else jnp.var(x, range(x.ndim - 1))
        )
        return u, self._log_det(variance)

    def _log_det(self, variance: Array) -> Array:
        return (jnp.log(jnp.abs(self.norm.weight)) - 0.5 * jnp.log(variance + 1e-5)).sum()
