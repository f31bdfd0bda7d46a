"""What is done to images (num_images, channels, height, width). All are linear in the images but
for the noise, which is added.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from dgm_core.arguments import (
    check_callable,
    check_count,
    check_image_shape,
    check_number,
    check_numbers,
    check_seed,
    refuse,
)
from dgm_core.restoration.checks import as_images, check_factor

__all__ = [
    "add_noise",
    "blur",
    "box_masks",
    "downsample",
    "hide",
    "operator_matrix",
    "pixel_masks",
    "to_gray",
]


def add_noise(x: Any, scale: float, *, seed: int) -> np.ndarray:
    """Images with independent normal noise, y = x + scale e; not clipped, so that the noise stays
    normal.

    Args:
        x: images, on the scale that `scale` is on: in [0, 1], say.
        scale: the standard deviation.
        seed: of the noise.

    Raises:
        ValueError: for an x that is no array of images and a scale that is not positive.

    Example:
        >>> float(add_noise(np.zeros((100, 1, 8, 8)), 0.5, seed=0).std().round(1))
        0.5
    """
    x, scale = as_images("x", x), check_number("scale", scale, above=0)
    rng = np.random.default_rng(check_seed("seed", seed, 0))
    return x + scale * rng.standard_normal(x.shape)


def blur(x: Any, width: float) -> np.ndarray:
    """Images convolved with a normal density, mirrored at the edges.

    Args:
        x: images.
        width: the standard deviation in pixels.

    Raises:
        ValueError: for an x that is no array of images and a width that is not positive.

    Example:
        >>> float(blur(np.ones((1, 1, 4, 4)), 1.0).max().round(6))
        1.0
    """
    x, width = as_images("x", x), check_number("width", width, above=0)
    return gaussian_filter(x, (0, 0, width, width), mode="reflect")


def downsample(x: Any, factor: int) -> np.ndarray:
    """The means of blocks of factor x factor pixels.

    Args:
        x: images.
        factor: which divides height and width.

    Raises:
        ValueError: for an x that is no array of images, and a factor that does not divide them.

    Example:
        >>> downsample(np.arange(4.0).reshape(1, 1, 2, 2), 2)
        array([[[[1.5]]]])
    """
    x, factor = as_images("x", x), check_count("factor", factor)
    check_factor(factor, x.shape)
    *batch, height, width = x.shape
    blocks = x.reshape(*batch, height // factor, factor, width // factor, factor)
    return blocks.mean((-3, -1))


def to_gray(x: Any, weights: Any = (0.299, 0.587, 0.114)) -> np.ndarray:
    """One channel, the weighted sum of all.

    Args:
        x: images.
        weights: of the channels (default: luminance of red, green and blue).

    Raises:
        ValueError: for an x that is no array of images, and another number of channels.

    Example:
        >>> to_gray(np.ones((1, 3, 2, 2))).shape
        (1, 1, 2, 2)
    """
    x, weights = as_images("x", x), check_numbers("weights", weights)
    if x.shape[1] != len(weights):
        refuse("x", f"images of {len(weights)} channels, one for each weight", x)
    return np.einsum("nchw,c->nhw", x, np.asarray(weights))[:, None]


def hide(x: Any, mask: Any) -> np.ndarray:
    """Images with zeros where a mask is 0, and the mask behind their channels: what a network that
    fills holes is to know.

    Args:
        x: images.
        mask: 1 where a pixel is seen, 0 where it is hidden, (num_images or 1, 1, height, width).

    Raises:
        ValueError: for an x that is no array of images, and a mask of other numbers or shape.

    Example:
        >>> hide(np.ones((5, 3, 4, 4)), pixel_masks((1, 4, 4), 0.5, 5, seed=0)).shape
        (5, 4, 4, 4)
    """
    x, mask = as_images("x", x), as_images("mask", np.asarray(mask, float))
    shape = (len(x), 1, *x.shape[2:])
    if mask.shape not in (shape, (1, *shape[1:])) or not np.isin(mask, (0, 1)).all():
        refuse("mask", f"zeros and ones of shape {shape}, or one for all", mask)
    return np.concatenate([x * mask, np.broadcast_to(mask, shape)], 1)


def pixel_masks(image_shape: Any, share: float, num: int, *, seed: int) -> np.ndarray:
    """Masks (num, 1, height, width) that hide each pixel with a probability.

    Args:
        image_shape: (channels, height, width), of which the channels do not matter.
        share: the probability of 0.
        num: of masks.
        seed: of the draws.

    Raises:
        ValueError: for a share outside (0, 1), and other bad arguments.

    Example:
        >>> pixel_masks((1, 8, 8), 0.3, 5, seed=0).shape
        (5, 1, 8, 8)
    """
    shape = (check_count("num", num), 1, *check_image_shape("image_shape", image_shape)[1:])
    share = check_number("share", share, above=0, below=1)
    rng = np.random.default_rng(check_seed("seed", seed, 0))
    return (rng.uniform(size=shape) >= share).astype(float)


def box_masks(image_shape: Any, size: int, num: int, *, seed: int | None = None) -> np.ndarray:
    """Masks (num, 1, height, width) that hide a square of pixels.

    Args:
        image_shape: (channels, height, width), of which the channels do not matter.
        size: of the square, smaller than the image.
        num: of masks.
        seed: of its places; None puts it into the middle.

    Raises:
        ValueError: for a size that leaves nothing seen, and other bad arguments.

    Example:
        >>> box_masks((1, 4, 4), 2, 1)[0, 0].astype(int).tolist()
        [[1, 1, 1, 1], [1, 0, 0, 1], [1, 0, 0, 1], [1, 1, 1, 1]]
    """
    num, (_, height, width) = check_count("num", num), check_image_shape("image_shape", image_shape)
    size = check_count("size", size, 1, min(height, width) - 1)
    room = height - size + 1, width - size + 1
    places = np.tile([(height - size) // 2, (width - size) // 2], (num, 1))
    if seed is not None:
        rng = np.random.default_rng(check_seed("seed", seed, 0))
        places = rng.integers(0, room, (num, 2))
    rows, columns = np.ogrid[:height, :width]
    first, left = (places[:, axis, None, None] for axis in (0, 1))
    inside = (rows >= first) & (rows < first + size) & (columns >= left) & (columns < left + size)
    return 1.0 - inside[:, None]


def operator_matrix(operator: Callable[[np.ndarray], np.ndarray], image_shape: Any) -> np.ndarray:
    """The matrix A (outputs, inputs) of a linear function of images, A x = operator(x) flattened:
    what a model that observes y ~ Normal(A x, scale) needs.

    Args:
        operator: from images to an array with a row for each, such as `partial(blur, width=1.0)`.
        image_shape: (channels, height, width) of the images.

    Raises:
        ValueError: for an operator that is not linear, or gives another number of rows.

    Cost:
        one call with as many images as there are numbers in one.

    Example:
        >>> operator_matrix(lambda x: downsample(x, 2), (1, 2, 2))
        array([[0.25, 0.25, 0.25, 0.25]])
    """
    shape = check_image_shape("image_shape", image_shape)
    check_callable("operator", operator)
    entries = prod(shape)
    basis = np.eye(entries).reshape(entries, *shape)
    probe = np.random.default_rng(0).standard_normal((3, *shape))
    probe[2] = probe[0] - 2.0 * probe[1]
    rows, found = np.asarray(operator(basis)), np.asarray(operator(probe))
    if rows.shape[:1] != (entries,) or found.shape[:1] != (3,):
        refuse("operator", f"a function that gives {entries} rows for as many images", rows)
    matrix, found = rows.reshape(entries, -1).T, found.reshape(3, -1)
    if not np.allclose(probe.reshape(3, -1) @ matrix.T, found, atol=1e-6 + 1e-6 * abs(found).max()):
        raise ValueError("operator must be linear in the images, and it is not: leave out noise.")
    return matrix
