"""Images as the functions of this package take them."""

from __future__ import annotations

from typing import Any

import numpy as np

from dgm_core.arguments import check_floats, refuse

__all__ = ["as_images", "check_factor"]


def as_images(name: str, x: Any) -> np.ndarray:
    """Images (num_images, channels, height, width) in double precision. Raises ValueError for other
    shapes, channels that come last, and numbers that are not finite.

    Example:
        >>> as_images("x", np.zeros((8, 8)))
        Traceback (most recent call last):
        ValueError: x must be images (num_images, channels, height, width) and not empty, got \
shape (8, 8).
    """
    images = check_floats(name, x)
    wanted = f"{name} must be images (num_images, channels, height, width)"
    if images.ndim != 4 or images.size == 0:
        raise ValueError(f"{wanted} and not empty, got shape {images.shape}.")
    if images.shape[3] in (1, 3) and images.shape[1] > 4:
        last = "whose channels come last: move them to the front"
        raise ValueError(f"{wanted}, got shape {images.shape}, {last}.")
    if bad := int((~np.isfinite(images)).sum()):
        raise ValueError(f"{name} must be finite, got {bad} of {images.size} values that are not.")
    return images


def check_factor(factor: int, shape: tuple[int, ...]) -> None:
    """Raise a ValueError unless a factor divides height and width of images of a shape.

    Example:
        >>> check_factor(2, (5, 1, 8, 8))
    """
    if shape[-2] % factor or shape[-1] % factor:
        height, width = shape[-2:]
        refuse("factor", f"a divisor of height and width, {height} and {width}", factor)
