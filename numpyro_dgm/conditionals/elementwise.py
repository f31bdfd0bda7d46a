"""What the distributions of single numbers share that are written here because the libraries lack
them, or lack a stable form of them.
"""

import jax
import jax.numpy as jnp
from jax import Array
from numpyro.distributions import Distribution, constraints

from numpyro_dgm.nn.requirements import known_wrong

__all__ = ["check_inside", "inside", "open_unit", "smallest"]


class Elementwise(Distribution):
    """A distribution of one number, given by arrays with the batch shape (mixtures: one more
    dimension, of components).
    """

    components = False

    def __init__(self, *params: Array, validate_args: bool | None = None) -> None:
        arrays = jnp.broadcast_arrays(*params)
        for name, value in zip(self.arg_constraints, arrays):
            setattr(self, name, value)
        shape = arrays[0].shape[:-1] if self.components else arrays[0].shape
        super().__init__(shape, validate_args=validate_args)

    def _uniform(self, key: Array, sample_shape: tuple[int, ...]) -> Array:
        """Uniform numbers in the open unit interval."""
        dtype = getattr(self, next(iter(self.arg_constraints))).dtype
        return inside(jax.random.uniform(key, (*sample_shape, *self.batch_shape), dtype))


class OpenInterval(Elementwise):
    """A density on the open unit interval that is zero or infinite at its ends."""

    def _validate_sample(self, value: Array) -> Array:
        return check_inside(self, value)


def smallest(dtype: jnp.dtype) -> float:
    """The smallest draw: 1 / x and the slopes of densities are finite there, 1e-31 in float32."""
    finfo = jnp.finfo(dtype)
    return float(finfo.tiny / finfo.eps)


def inside(x: Array) -> Array:
    """Move numbers that were rounded to 0 or 1 into the open unit interval."""
    return jnp.clip(x, smallest(x.dtype), 1.0 - jnp.finfo(x.dtype).eps / 2)


open_unit = constraints.open_interval(0.0, 1.0)


def check_inside(distribution: object, value: Array) -> Array:
    """Raise a ValueError unless all values lie strictly between 0 and 1."""
    valid = (value > 0) & (value < 1)
    if known_wrong(valid):
        raise ValueError(
            f"{type(distribution).__name__.strip('_')} expects values strictly between 0 and 1, "
            "got others, where its density is "
            "zero, infinite or not defined; dequantize the data or move them inside, as in 0.001 "
            "+ 0.998 * x."
        )
    return valid
