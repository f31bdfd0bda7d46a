"""Sizes of networks whose blocks double or halve images."""

from __future__ import annotations

from typing import Any

from dgm_core.arguments import check_image_shape

__all__ = ["check_resolutions"]


def check_resolutions(
    image_shape: Any, times: int
) -> tuple[tuple[int, int, int], list[tuple[int, int]]]:
    """The shape of an image (channels, height, width), and its sizes from the smallest to its own;
    ValueError unless it can be halved that often without a rest.

    Example:
        >>> check_resolutions((1, 28, 28), 2)
        ((1, 28, 28), [(7, 7), (14, 14), (28, 28)])
    """
    channels, height, width = check_image_shape("image_shape", image_shape)
    if height % 2**times or width % 2**times or not times:
        raise ValueError(
            f"height and width must be divisible by {2**times}, once for each of {times} blocks, "
            f"got {height} and {width}: pad or crop the images, or give other hidden_channels."
        )
    sizes = [(height >> i, width >> i) for i in range(times, -1, -1)]
    return (channels, height, width), sizes
