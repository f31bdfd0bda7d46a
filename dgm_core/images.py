"""Sizes and shapes of networks over images, which come as (channels, height, width)."""

from __future__ import annotations

from math import gcd, prod
from typing import Any

from dgm_core.arguments import check_count, refuse
from dgm_core.contexts import map_channels, parts_of

__all__ = ["check_images", "context_parts", "group_count", "scales"]


def check_images(owner: Any, images: Any, image_shape: tuple[int, ...]) -> int:
    """How many leading dimensions an array of images has; a ValueError for images of another shape,
    which names channels that come last.

    Example:
        >>> import numpy as np
        >>> check_images("UNet(...)", np.zeros((7, 1, 8, 8)), (1, 8, 8))
        1
        >>> check_images("UNet(...)", np.zeros((7, 8, 8, 1)), (1, 8, 8))
        Traceback (most recent call last):
        ValueError: UNet(...) expects images of shape (1, 8, 8), got an array of shape \
(7, 8, 8, 1): move the channels to the front.
    """
    shape = tuple(getattr(images, "shape", ()))
    end = shape[max(0, len(shape) - 3) :]
    if end != image_shape:
        channels, *pixels = image_shape
        last = end == (*pixels, channels)
        hint = ": move the channels to the front." if last else "."
        raise ValueError(
            f"{owner} expects images of shape {image_shape}, got an array of shape {shape}{hint}"
        )
    return len(shape) - 3


def group_count(channels: int) -> int:
    """Into how many groups a normalization divides channels: at most 8, of at least 4 channels each
    where there are as many.

    Example:
        >>> [group_count(channels) for channels in (3, 6, 16, 64)]
        [1, 1, 4, 8]
    """
    return gcd(channels, max(channels // 4, 1), 8)


def scales(image_shape: tuple[int, ...], number: Any) -> list[tuple[int, int]]:
    """Height and width of an image at a number of scales, each half of the one before, rounded up.

    Example:
        >>> scales((1, 28, 28), 3), scales((1, 9, 7), 2)
        ([(28, 28), (14, 14), (7, 7)], [(9, 7), (5, 4)])
    """
    sizes = [tuple(image_shape[1:])]
    for _ in range(check_count("the number of scales", number) - 1):
        height, width = sizes[-1]
        if min(height, width) < 2:
            most = f"channels for at most {len(sizes)} scales of images of shape {image_shape}"
            refuse("channels", most, f"{number} of them")
        sizes.append(((height + 1) // 2, (width + 1) // 2))
    return sizes  # type: ignore[return-value]


def context_parts(
    context_shape: tuple[Any, ...], pixels: tuple[int, ...]
) -> tuple[tuple[Any, ...], int, int]:
    """The maps of a checked context of an image with these pixels, their channels, and the entries
    of all its vectors and labels. ValueError for a map with other pixels.

    Example:
        >>> context_parts(((2, 8, 8), (3, 4, 4), (10,)), (4, 4))
        (((2, 8, 8), (3, 4, 4)), 11, 10)
    """
    parts = parts_of(context_shape)
    maps = tuple(part for part in parts if len(part) == 3)
    vectors = sum(prod(part) for part in parts if len(part) != 3)
    return maps, map_channels(maps, pixels), vectors
