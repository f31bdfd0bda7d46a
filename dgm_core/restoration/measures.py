"""How good restorations are: signal to noise, overlap of classes, coverage of intervals."""

from __future__ import annotations

from math import ceil
from typing import Any, NamedTuple

import numpy as np

from dgm_core.arguments import check_count, check_floats, check_number, check_numbers, refuse
from dgm_core.restoration.checks import as_images

__all__ = ["Coverage", "coverage", "hidden_error", "iou", "psnr"]


def _pairs(x: Any, restored: Any) -> tuple[np.ndarray, np.ndarray]:
    x, restored = as_images("x", x), as_images("restored", restored)
    if x.shape != restored.shape:
        refuse("restored", f"images of the shape of x, {x.shape}", restored)
    return x, restored


def psnr(x: Any, restored: Any, *, peak: float = 1.0) -> np.ndarray:
    """Peak signal-to-noise ratio of each image in decibels, 10 log10(peak^2 / mean squared error).

    Args:
        x: the images.
        restored: what was made of the corrupted ones.
        peak: the range of a pixel: 1, or 255 of gray levels.

    Returns:
        (num_images,), infinite where an image is restored without an error.

    Raises:
        ValueError: for other shapes, numbers outside of twice the range, and where none is above a
            hundredth of it.

    Example:
        >>> psnr(np.zeros((1, 1, 2, 2)), np.full((1, 1, 2, 2), 0.1))
        array([20.])
    """
    x, restored = _pairs(x, restored)
    peak = check_number("peak", peak, above=0)
    if abs(x).max() > 2 * peak or 0 < abs(x).max() <= peak / 100:
        refuse("peak", f"the range of a pixel, whose largest is {abs(x).max():g}", peak)
    with np.errstate(divide="ignore"):
        return 10.0 * np.log10(peak**2 / ((x - restored) ** 2).mean((1, 2, 3)))


def hidden_error(x: Any, restored: Any, mask: Any) -> float:
    """The mean squared error over the pixels that a mask hides, of all images together.

    Args:
        x: the images.
        restored: what was made of the corrupted ones.
        mask: as `hide` takes it: 0 where a pixel was hidden.

    Raises:
        ValueError: for other shapes, and a mask that hides nothing.

    Example:
        >>> x, mask = np.ones((1, 1, 2, 2)), np.array([[[[1.0, 1.0], [0.0, 1.0]]]])
        >>> hidden_error(x, 0.5 * x, mask)
        0.25
    """
    x, restored = _pairs(x, restored)
    mask = as_images("mask", np.asarray(mask, float))
    shape = (len(x), 1, *x.shape[2:])
    if mask.shape not in (shape, (1, *shape[1:])) or not np.isin(mask, (0, 1)).all() or mask.all():
        refuse("mask", f"zeros and ones of shape {shape}, or one for all, zeros among them", mask)
    hidden = np.broadcast_to(mask == 0, x.shape)
    return float(((x - restored)[hidden] ** 2).mean())


def iou(labels: Any, predicted: Any, num_classes: int) -> np.ndarray:
    """Intersection over union of each class: pixels of a class in both, over those in one of them.

    Args:
        labels: class numbers of pixels, any shape.
        predicted: likewise.
        num_classes: K.

    Returns:
        (K,), NaN for a class that neither has.

    Raises:
        ValueError: for other shapes, and numbers that are no classes.

    Example:
        >>> iou([0, 0, 1, 1], [0, 1, 1, 1], 2).round(3).tolist()
        [0.5, 0.667]
    """
    num_classes = check_count("num_classes", num_classes, 2)
    one, other = check_floats("labels", labels), check_floats("predicted", predicted)
    if one.shape != other.shape or not one.size:
        refuse("predicted", f"class numbers of the shape of labels, {one.shape}", other)
    for name, array in (("labels", one), ("predicted", other)):
        good = (array >= 0) & (array < num_classes) & (array == np.floor(array))
        if not good.all():
            refuse(name, f"class numbers 0 to {num_classes - 1}", array[~good].flat[0].item())
    classes = np.arange(num_classes)[:, None]
    first, second = one.reshape(1, -1) == classes, other.reshape(1, -1) == classes
    with np.errstate(invalid="ignore"):
        return (first & second).sum(1) / (first | second).sum(1)


class Coverage(NamedTuple):
    """level, of central intervals;  coverage, the share of pixels inside;  width, the mean length
    of the intervals."""

    level: float
    coverage: float
    width: float


def coverage(x: Any, draws: Any, levels: Any = (0.5, 0.8, 0.9, 0.95)) -> list[Coverage]:
    """How often pixels lie in the central intervals of their draws, which are as wide as they say
    where the shares are the levels.

    Args:
        x: the images (num_images, ...).
        draws: of each image given its corrupted one, (num_draws, num_images, ...).
        levels: in (0, 1).

    Raises:
        ValueError: for other shapes, too few draws for a level, 2 / (1 - level) - 1, and numbers
            that are not finite.

    Example:
        >>> x = np.random.default_rng(0).standard_normal((41, 5, 1, 8, 8))
        >>> [round(row.coverage, 1) for row in coverage(x[0], x[1:], (0.5, 0.9))]
        [0.5, 0.9]
    """
    x, draws = check_floats("x", x), check_floats("draws", draws)
    levels = check_numbers("levels", levels, above=0, below=1)
    # Of n exchangeable draws and x, x lies below the k-th with probability k / (n + 1).
    least = ceil(2 / (1 - max(levels)) - 1 - 1e-6)
    if draws.shape[1:] != x.shape or len(draws) < least or not x.size:
        wanted = f"draws of images of shape {x.shape}, at least {least} for a level of"
        refuse("draws", f"{wanted} {max(levels):g}", draws)
    for name, array in (("x", x), ("draws", draws)):
        if not np.isfinite(array).all():
            refuse(name, "finite", "values that are not")
    rows = []
    for level in levels:
        low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], 0, method="weibull")
        inside = (x >= low) & (x <= high)
        rows.append(Coverage(level, float(inside.mean()), float((high - low).mean())))
    return rows
