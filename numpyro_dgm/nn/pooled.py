"""Features of sets: a network on every row, sums and means over the rows, a network on these."""

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
from jax import Array

from dgm_core.arguments import check_callable

__all__ = ["Pooled"]


class Pooled(eqx.Module):
    """Features of groups of rows, of different numbers of them, in any order:

    h_i = row_network(x_i);  features = out_network([sum_i h_i, mean_i h_i, log(1 + n)]).

    Args:
        row_network: from the d entries of a row to H features.
        out_network: from 2 H + 1 numbers to the features of the group.

    Shapes:
        rows (*, n, d), beside a mask also (*, n) where d = 1; mask (*, n), true where a row counts
        -> (*, F).
        What lies beneath the mask, NaN included, does not enter.

    Raises:
        ValueError: where rows and mask do not fit.

    References:
        Zaheer et al. (2017), arXiv:1703.06114.

    Example:
        >>> from numpyro_dgm.nn import MLP
        >>> keys = jax.random.split(jax.random.key(0))
        >>> pooled = Pooled(MLP(2, (8,), key=keys[0]), MLP(17, (8,), 5, key=keys[1]))
        >>> pooled(jnp.zeros((3, 7, 2)), jnp.ones((3, 7), bool)).shape
        (3, 5)
    """

    row_network: Callable
    out_network: Callable

    def __init__(self, row_network: Callable, out_network: Callable) -> None:
        self.row_network = check_callable("row_network", row_network, "a network of a row")
        self.out_network = check_callable("out_network", out_network, "a network of features")

    def __call__(self, rows: Array, mask: Array | None = None) -> Array:
        """The features of each group."""
        if mask is None:
            mask = jnp.ones(rows.shape[:-1], bool)
        if rows.ndim == mask.ndim:
            rows = rows[..., None]
        if rows.shape[:-1] != mask.shape:
            raise ValueError(
                f"Rows of shape {tuple(rows.shape)} need a mask of shape {tuple(rows.shape[:-1])}, "
                f"got {tuple(mask.shape)}."
            )
        seen = mask.astype(bool)[..., None]
        hidden = self.row_network(jnp.where(seen, rows, 0.0))
        count = seen.sum(-2).astype(hidden.dtype)
        total = jnp.where(seen, hidden, 0.0).sum(-2)
        return self.out_network(
            jnp.concatenate([total, total / jnp.maximum(count, 1.0), jnp.log1p(count)], -1)
        )
