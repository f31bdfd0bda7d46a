"""What models of images given images share."""

from typing import Any, ClassVar

import jax.numpy as jnp
from jax import Array
from numpyro.distributions import Distribution, constraints

from dgm_core.images import LARGEST, num_images
from numpyro_dgm.nn import require
from numpyro_dgm.nn.contexts import as_map

__all__: list[str] = []


class Stated(Distribution):
    """What a model is given and does not model: every draw is the value itself, which counts
    nothing, log p = 0. As a site it is there to be compared, by a critic for instance.

    Args:
        value: (*batch, *event).
        event_dim: .
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    has_rsample = True

    def __init__(self, value: Array, event_dim: int) -> None:
        self.value, split = value, value.ndim - event_dim
        super().__init__(value.shape[:split], value.shape[split:], validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """All real arrays."""
        return constraints.independent(constraints.real, len(self.event_shape))

    @property
    def mean(self) -> Array:
        """The value."""
        return self.value

    def expand(self, batch_shape: tuple[int, ...]) -> "Stated":
        """The same with a larger batch shape."""
        value = jnp.broadcast_to(self.value, (*batch_shape, *self.event_shape))
        return Stated(value, len(self.event_shape))

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        """The value (*sample_shape, *batch, *event)."""
        return jnp.broadcast_to(self.value, (*sample_shape, *self.value.shape))

    def log_prob(self, value: Array, intermediates: Any = None) -> Array:
        """Zeros."""
        batch = value.shape[: value.ndim - self.event_dim]
        return jnp.zeros(jnp.broadcast_shapes(batch, self.batch_shape), self.value.dtype)


def image_pairs(
    x: Any, y: Any, image_shape: tuple[int, ...], given_shape: tuple[int, ...]
) -> Array:
    """The images y (batch, *given_shape) that those of x (batch, *image_shape) are made from, in
    floating point; ValueError unless they are as many, and where numbers are as large as gray
    levels up to 255.
    """
    number = num_images("y", y, given_shape)
    if x is not None and num_images("x", x, image_shape) != number:
        raise ValueError(f"x and y must have the same number of images, got {len(x)} and {number}.")
    y = jnp.asarray(y, jnp.result_type(y, float))
    what = f"images of numbers between -{LARGEST:g} and {LARGEST:g} (divide gray levels by 255)"
    good = abs(y) <= LARGEST
    require("y", what, y, good)
    return jnp.where(good, y, jnp.nan)


def fitted(y: Array, pixels: tuple[int, ...]) -> Array:
    """Images y (*batch, channels, height, width) with these pixels: in blocks, whose entries become
    channels, or every pixel repeated.

    Example:
        >>> fitted(jnp.ones((5, 1, 2, 2)), (4, 4)).shape
        (5, 1, 4, 4)
        >>> fitted(jnp.ones((5, 1, 4, 4)), (2, 2)).shape
        (5, 4, 2, 2)
    """
    if y.shape[-1] >= pixels[1]:
        return as_map(y, tuple(y.shape[-3:]), pixels)
    factor = pixels[1] // y.shape[-1]
    return jnp.repeat(jnp.repeat(y, factor, -1), factor, -2)
