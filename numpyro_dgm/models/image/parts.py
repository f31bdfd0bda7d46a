"""What models of images given images share."""

from typing import Any

import jax.numpy as jnp
from jax import Array

from dgm_core.images import LARGEST, MASKED, WITHIN, not_by_pixel, num_images
from numpyro_dgm.conditionals.filled import Filled
from numpyro_dgm.joints.entries import entries_of
from numpyro_dgm.joints.values import base_of
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
    good = abs(y) <= LARGEST
    require("y", WITHIN, y, good)
    return jnp.where(good, y, jnp.nan)


def within(x: Any, fn: Any) -> None:
    """Ask of images x that a distribution of real numbers scores, and not one of classes, that they
    are not as large as gray levels up to 255.
    """
    if x is not None and not fn.support.is_discrete:
        require("x", WITHIN, x, ~(abs(x) > LARGEST))  # NaN is found beside, and said otherwise


def filled(fn: Any, y: Array) -> Filled:
    """The distribution of images that are known where the mask behind the channels of y is 1."""
    entries, mask = entries_of(fn), y[:, -1:]
    if entries is None:
        raise ValueError(not_by_pixel(type(base_of(fn)).__name__))
    require("y", MASKED, mask, (mask == 0) | (mask == 1))
    return Filled(entries, mask == 1, y[:, :-1], 3)


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
