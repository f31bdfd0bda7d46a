"""What models of images given images share."""

from typing import Any

import jax.numpy as jnp
from jax import Array

from dgm_core.images import LARGEST, num_images
from numpyro_dgm.nn import require
from numpyro_dgm.nn.contexts import as_map

__all__: list[str] = []


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
