"""Times as networks see them."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import Array

from dgm_core.arguments import check_count, check_number, refuse

__all__ = ["TimeFeatures"]


class TimeFeatures(eqx.Module):
    """Sines and cosines of a time: (sin w_k t, cos w_k t), k = 1, ..., dim / 2, where the
    frequencies w_k grow geometrically from the lowest to the highest.

    It has no weights. The defaults are for times in [0, 1]: of steps 0, ..., T, hand over t / T.

    Args:
        dim: of the vector, even.
        lowest: the first frequency w_1.
        highest: the last one.

    Attributes:
        out_dim: dim.

    Shapes:
        t (*batch,) -> (*batch, dim), the sines first.

    Raises:
        ValueError: for an odd dim, a lowest frequency that is not positive, and a highest one that
            is not above it.

    References:
        Vaswani et al. (2017), arXiv:1706.03762; Ho et al. (2020), arXiv:2006.11239.

    Example:
        >>> TimeFeatures(4)(jnp.zeros(7)).shape
        (7, 4)
    """

    out_dim: int = eqx.field(static=True)
    lowest: float = eqx.field(static=True)
    highest: float = eqx.field(static=True)

    def __init__(self, dim: int, *, lowest: float = 1.0, highest: float = 100.0) -> None:
        self.out_dim = check_count("dim", dim, 2)
        self.lowest = check_number("lowest", lowest, above=0)
        self.highest = check_number("highest", highest, above=lowest)
        if dim % 2:
            refuse("dim", "an even integer", dim)

    def __call__(self, t: Array) -> Array:
        """The features of t (*batch,)."""
        t = jnp.asarray(t, jnp.result_type(t, float))
        frequencies = np.geomspace(self.lowest, self.highest, self.out_dim // 2)
        angles = t[..., None] * jnp.asarray(frequencies, t.dtype)
        return jnp.concatenate((jnp.sin(angles), jnp.cos(angles)), -1)

    def __repr__(self) -> str:
        return f"TimeFeatures({self.out_dim}, lowest={self.lowest}, highest={self.highest})"
