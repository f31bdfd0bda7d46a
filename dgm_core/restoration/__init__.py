"""Images and what was done to them: noise, blur, fewer pixels, lost colors, holes; how good a
restoration is, and the best one of normal images.

Example:
    >>> import numpy as np
    >>> x = np.random.default_rng(0).uniform(size=(5, 1, 8, 8))
    >>> y = add_noise(x, 0.1, seed=1)
    >>> bool(abs(psnr(x, y).mean() - 20) < 1)
    True
"""

from dgm_core.restoration.corruption import (
    add_noise,
    blur,
    box_masks,
    downsample,
    hide,
    operator_matrix,
    pixel_masks,
    to_gray,
)
from dgm_core.restoration.linear import LinearRestorer, linear_restorer
from dgm_core.restoration.measures import Coverage, coverage, hidden_error, iou, psnr

__all__ = [
    "Coverage",
    "LinearRestorer",
    "add_noise",
    "blur",
    "box_masks",
    "coverage",
    "downsample",
    "hidden_error",
    "hide",
    "iou",
    "linear_restorer",
    "operator_matrix",
    "pixel_masks",
    "psnr",
    "to_gray",
]
