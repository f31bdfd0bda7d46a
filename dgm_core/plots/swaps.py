"""A picture of latents that changed places."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from dgm_core.arguments import refuse
from dgm_core.plots.images import samples_grid

__all__ = ["swaps"]


def swaps(
    x: np.ndarray, grid: np.ndarray, image_shape: Sequence[int], *, title: str | None = None
) -> Figure:
    """A table of images: the data in the margins, in row i and column j what has the content of
    datum i and the style of datum j; the corner is empty.

    Args:
        x: (num, ...), the data.
        grid: (num, num, ...), as `evaluation.swap` gives them.
        image_shape: (channels, height, width), 1 or 3 channels.

    Raises:
        ValueError: where grid and data do not fit each other, or an image shape.

    Example:
        >>> len(swaps(np.zeros((3, 64)), np.zeros((3, 3, 64)), (1, 8, 8)).axes)
        1
    """
    x, grid = np.asarray(x, float), np.asarray(grid, float)
    num = len(x)
    if grid.shape[:2] != (num, num) or grid[0, 0].size != x[0].size:
        refuse("grid", f"an array ({num}, {num}, *image) for {num} data", grid)
    images = np.ones((num + 1, num + 1, x[0].size))
    images[0, 1:] = images[1:, 0] = x.reshape(num, -1)
    images[1:, 1:] = grid.reshape(num, num, -1)
    flat = images.reshape((num + 1) ** 2, -1)
    return samples_grid(flat, image_shape, num_columns=num + 1, title=title)
