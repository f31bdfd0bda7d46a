"""Pictures of images: in a grid, beside their reconstructions, along a traversal."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dgm_core.arguments import check_floats
from dgm_core.plots.base import check_finite, new_figure

__all__ = ["reconstructions", "restorations", "samples_grid", "traversals"]


def samples_grid(
    x: np.ndarray,
    image_shape: Sequence[int],
    *,
    num_columns: int | None = None,
    title: str | None = None,
) -> Figure:
    """Images side by side in a grid, about as wide as high.

    Args:
        x: (num_images, channels * height * width) or (num_images, channels, height, width), values
            in [0, 1].
        image_shape: (channels, height, width), 1 or 3 channels.
        num_columns: None makes the grid square.

    Raises:
        ValueError: when there are no images or `x` does not fit `image_shape`.

    Example:
        >>> samples_grid(np.zeros((10, 64)), (1, 8, 8)).axes[0].get_title()
        ''
    """
    images = _images(x, image_shape)
    num_columns = math.ceil(math.sqrt(len(images))) if num_columns is None else num_columns
    num_rows = math.ceil(len(images) / num_columns)
    figure = new_figure(
        6, 6 * num_rows * images.shape[1] / (num_columns * images.shape[2]) + (0.3 if title else 0)
    )
    _show(figure.subplots(), _tile(images, num_rows, num_columns), title)
    return figure


def reconstructions(
    x: np.ndarray, x_mean: np.ndarray, image_shape: Sequence[int], *, num_columns: int = 10
) -> Figure:
    """Pairs of rows: data above, their reconstructions below.

    Args:
        x, x_mean: as in `samples_grid`, of equal length.
        image_shape: (channels, height, width).
        num_columns: pairs per row.
    """
    data, means = _images(x, image_shape), _images(x_mean, image_shape)
    if len(data) != len(means):
        raise ValueError(
            f"There must be one reconstruction per datum, got {len(data)} data and {len(means)}."
        )
    num_columns = min(num_columns, len(data))
    pairs, gap = [], _gap(data)
    for start in range(0, len(data), num_columns):
        above, below = (
            _tile(part[start : start + num_columns], 1, num_columns) for part in (data, means)
        )
        pairs += [
            above[:-gap],
            below[gap - gap // 4 :],
        ]  # a datum stands closer to its reconstruction than to the next pair
    picture = np.concatenate(pairs)
    figure = new_figure(8, 8 * picture.shape[0] / picture.shape[1] + 0.3)
    _show(figure.subplots(), picture, "data above, reconstructions below")
    return figure


def restorations(
    given: np.ndarray,
    draws: np.ndarray,
    x: np.ndarray | None = None,
    *,
    num_draws: int = 3,
) -> Figure:
    """What was given, what was drawn of the images behind it, and how sure each pixel is: a column
    for each image; rows for the given images, some draws, the mean and the standard deviation of
    all draws (white: the largest of all pixels), and the true images.

    Args:
        given: (num_images, channels, height, width) in [0, 1]; of other than 1 or 3 channels the
            first is shown, as that of an image with its mask.
        draws: (num_draws, num_images, channels, height, width), two or more.
        x: the true images, where they are known.
        num_draws: how many of the draws are shown.

    Raises:
        ValueError: for other shapes, and fewer than two draws.

    Example:
        >>> x = np.zeros((4, 1, 8, 8))
        >>> [text.get_text() for text in restorations(x, np.zeros((2, *x.shape)), x).axes[0].texts]
        ['given', 'draw', 'draw', 'mean', 'deviation', 'truth']
    """
    draws, given = check_floats("draws", draws), check_floats("given", given)
    num = draws.shape[1] if draws.ndim == 5 else 0
    if not num or len(draws) < 2 or given.ndim != 4 or len(given) != num:
        raise ValueError(
            "given must be (num_images, channels, height, width) and draws two or more for each of "
            f"them, (num_draws, num_images, ...), got {given.shape} and {draws.shape}."
        )
    given = given if given.shape[1] in (1, 3) else given[:, :1]
    spread = draws.std(0)
    rows = {"given": given}
    rows |= {f"draw {i}": draw for i, draw in enumerate(draws[:num_draws])}
    rows |= {"mean": draws.mean(0), "deviation": spread / max(spread.max(), 1e-12)}
    rows |= {} if x is None else {"truth": check_floats("x", x)}
    size = draws.shape[-2:]
    parts = [_resized(_images(row, row.shape[1:]), size) for row in rows.values()]
    colors = max(part.shape[-1] for part in parts)
    parts = [np.broadcast_to(part, (*part.shape[:-1], colors)) for part in parts]
    picture = _tile(np.concatenate(parts), len(parts), num)
    figure = new_figure(9, 8 * picture.shape[0] / picture.shape[1])
    axes = figure.subplots()
    _show(axes, picture, None)
    step = picture.shape[0] / len(parts)
    for index, name in enumerate(rows):
        place = (-0.01 * picture.shape[1], (index + 0.5) * step)
        axes.text(*place, name.split()[0], ha="right", va="center", fontsize=9)
    return figure


def _resized(images: np.ndarray, pixels: tuple[int, ...]) -> np.ndarray:
    """Images of fewer or more pixels, (num, height, width, channels), as large as others are
    shown."""
    size = math.ceil(64 / max(pixels))
    places = [np.arange(n * size) * m // (n * size) for n, m in zip(pixels, images.shape[1:3])]
    return images[:, places[0]][:, :, places[1]]


def traversals(
    x: np.ndarray,
    image_shape: Sequence[int] | None = None,
    *,
    names: Sequence[str] | None = None,
    ticks: Sequence[float] | None = None,
) -> Figure:
    """What a model makes of codes along a line: a row of images for each line, or a panel of
    curves, from dark to bright.

    Args:
        x: (num_lines, num_steps, *event): one datum of what `traverse` returns, or what
            `interpolate` returns.
        image_shape: (channels, height, width) of images; None for tables and sequences, whose
            entries are drawn as a curve for each step.
        names: of the lines, such as "$z_3$".
        ticks: the values of the code at the steps.

    Raises:
        ValueError: for other shapes, values that are not finite, and other numbers of names or
            ticks.

    Example:
        >>> traversals(np.zeros((3, 5, 64)), (1, 8, 8), names=["a", "b", "c"]).axes[0].get_title()
        ''
    """
    x = check_floats("x", x)
    if x.ndim < 3 or x.size == 0:
        raise ValueError(
            f"x must be (num_lines, num_steps, *event) and not empty, got shape {x.shape}."
        )
    check_finite("x", x)
    for what, given, wanted in (("names", names, x.shape[0]), ("ticks", ticks, x.shape[1])):
        if given is not None and len(given) != wanted:
            raise ValueError(f"{what} must be {wanted}, one for each of x, got {len(given)}.")
    if image_shape is None:
        return _curves(x, names, ticks)
    num_lines, num_steps = x.shape[:2]
    images = _images(x.reshape(num_lines * num_steps, -1), image_shape)
    picture, gap = _tile(images, num_lines, num_steps), _gap(images)
    figure = new_figure(7, 7 * picture.shape[0] / picture.shape[1] + 0.3)
    axes = figure.subplots()
    _show(axes, picture, None)
    axes.set_axis_on()
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelsize=8)
    height, width = (size + gap for size in images.shape[1:3])
    across = (np.arange(num_steps) + 0.5) * width + gap / 2
    axes.set_xticks(
        across if ticks is not None else [], [f"{t:.2g}" for t in ([] if ticks is None else ticks)]
    )
    down = (np.arange(num_lines) + 0.5) * height + gap / 2
    axes.set_yticks(down if names is not None else [], list(names or ()))
    return figure


def _curves(x: np.ndarray, names: Sequence[str] | None, ticks: Sequence[float] | None) -> Figure:
    from matplotlib import colormaps

    num_lines, num_steps = x.shape[:2]
    figure = new_figure(2.2 * min(num_lines, 4) + 0.6, 1.8 * math.ceil(num_lines / 4) + 0.3)
    panels = figure.subplots(math.ceil(num_lines / 4), min(num_lines, 4), squeeze=False)
    colors = colormaps["viridis"](np.linspace(0, 0.9, num_steps))
    for index, panel in enumerate(panels.ravel()):
        if index >= num_lines:
            panel.set_visible(False)
            continue
        for step, color in enumerate(colors):
            label = None if ticks is None else f"{ticks[step]:.2g}"
            curve = x[index, step].ravel()
            mark = "o" if curve.size == 1 else ""
            panel.plot(curve, mark + "-", color=color, linewidth=1, markersize=4, label=label)
        panel.set_title(names[index] if names is not None else "", fontsize=10)
        panel.tick_params(labelsize=7)
    if ticks is not None:
        handles, labels = panels[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize=7)
    return figure


def _images(x: np.ndarray, image_shape: Sequence[int]) -> np.ndarray:
    """(num_images, height, width, channels), clipped to [0, 1]."""
    channels, height, width = image_shape
    x = np.asarray(x, np.float64)
    if channels not in (1, 3):
        raise ValueError(f"Images have 1 or 3 channels, got image_shape {tuple(image_shape)}.")
    if len(x) == 0 or x[0].size != channels * height * width:
        raise ValueError(
            f"x must be images of shape {tuple(image_shape)}, one at least, got an array of "
            f"shape {x.shape}."
        )
    check_finite("x", x)
    pixel = math.ceil(64 / max(height, width))  # small images enlarged: thin lines between them
    enlarged = x.reshape(-1, channels, height, width).repeat(pixel, axis=2).repeat(pixel, axis=3)
    return np.clip(np.moveaxis(enlarged, 1, -1), 0, 1)


def _gap(images: np.ndarray) -> int:
    """An eighth of an image: digits fill their frames and would run into each other."""
    return max(images.shape[1:3]) // 8


def _tile(images: np.ndarray, num_rows: int, num_columns: int) -> np.ndarray:
    """One large white image with the small ones in it, a margin around each."""
    num, height, width, channels = images.shape
    gap = _gap(images)
    framed = np.ones((num_rows * num_columns, height + gap, width + gap, channels))
    framed[:num, gap:, gap:] = images
    rows = framed.reshape(num_rows, num_columns, height + gap, width + gap, channels).swapaxes(1, 2)
    picture = rows.reshape(num_rows * (height + gap), num_columns * (width + gap), channels)
    return np.pad(picture, ((0, gap), (0, gap), (0, 0)), constant_values=1.0)


def _show(axes: Axes, picture: np.ndarray, title: str | None) -> None:
    axes.imshow(
        picture.squeeze(-1) if picture.shape[-1] == 1 else picture, cmap="gray", vmin=0, vmax=1
    )
    axes.set_axis_off()
    axes.set_title(title or "", fontsize=10)
