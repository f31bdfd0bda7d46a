"""What networks over the pixels of an image, in raster order, may see: masks and blind spots."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dgm_core.arguments import check_count, refuse

__all__ = ["blind_spot", "check_kernel_size", "pixel_mask"]


def check_kernel_size(value: int, least: int = 3) -> int:
    """An odd kernel size.

    Example:
        >>> check_kernel_size(3)
        3
    """
    size = check_count("kernel_size", value, least)
    if size % 2 == 0:
        refuse("kernel_size", f"an odd integer of at least {least}", value)
    return size


def pixel_mask(
    kind: str, kernel_size: int, in_channels: int, out_channels: int, groups: int = 1
) -> NDArray[np.bool_]:
    """Which weights (kernel_size, kernel_size, in_channels, out_channels) of a convolution see only
    pixels before their own in raster order, and at their own only groups of channels before their
    group (kind "A") or up to it ("B").

    Example:
        >>> pixel_mask("A", 3, 1, 1)[..., 0, 0].astype(int).tolist()
        [[1, 1, 1], [1, 0, 0], [0, 0, 0]]
    """
    center = kernel_size // 2
    mask = np.zeros((kernel_size, kernel_size, in_channels, out_channels), bool)
    mask[:center] = mask[center, :center] = True
    into = np.arange(in_channels) * groups // in_channels
    out = np.arange(out_channels) * groups // out_channels
    mask[center, center] = into[:, None] < out if kind == "A" else into[:, None] <= out
    return mask


def blind_spot(height: int, width: int, kernel_size: int, row: int, column: int) -> int:
    """How many pixels before (row, column) a stack of masked convolutions of any depth cannot see:
    those i rows above and j > i (kernel_size - 1) / 2 columns to the right.

    Example:
        >>> blind_spot(9, 9, 3, 4, 4), blind_spot(28, 28, 5, 14, 14)
        (6, 36)
    """
    slope = (kernel_size - 1) // 2
    return sum(max(0, width - 1 - column - slope * i) for i in range(1, row + 1))
