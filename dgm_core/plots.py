"""Pictures of samples, reconstructions, latent spaces, losses and draws.

Every function returns a `matplotlib.figure.Figure` that belongs to nobody else: no pyplot, no
global state, no display needed. `save` writes it; a notebook shows it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dgm_core.files import replacing
from dgm_core.results import History

_NOT_CURVES = ("epoch", "step", "seconds")
_POINTS = 5_000  # more in one scatter plot show nothing more


def save(figure: Figure, path: str | os.PathLike[str], *, dpi: int = 120) -> None:
    """Write a figure in the format of the path's suffix (.png, .pdf, .svg); a file in the way is
    replaced whole.
    """
    suffix = Path(path).suffix.removeprefix(".")
    if suffix not in (known := figure.canvas.get_supported_filetypes()):
        raise ValueError(
            f"A picture's name must end in one of {', '.join(sorted(known))}, got "
            f"{os.fspath(path)!r}."
        )
    with replacing(path) as file:
        figure.savefig(file, format=suffix, dpi=dpi)


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
    figure = _figure(
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
    figure = _figure(8, 8 * picture.shape[0] / picture.shape[1] + 0.3)
    _show(figure.subplots(), picture, "data above, reconstructions below")
    return figure


def latent_scatter(
    z: np.ndarray, labels: np.ndarray | None = None, *, title: str | None = None
) -> Figure:
    """Latent values as points, colored by class.

    Args:
        z: (num_data, z_dim). One dimension is shown as histograms, two as they are, more through
            their first two principal components with the share of the variance that each explains.
        labels: (num_data,) class numbers.

    Raises:
        ValueError: for other shapes.
    """
    z = np.asarray(z, np.float64)
    if z.ndim != 2 or z.size == 0:
        raise ValueError(f"z must be (num_data, z_dim) and not empty, got shape {z.shape}.")
    _check_finite("z", z)
    if labels is not None and np.shape(labels) != (len(z),):
        raise ValueError(
            f"labels must be one number per datum, got shape {np.shape(labels)} for {len(z)} data."
        )
    figure = _figure(5.5, 5)
    axes = figure.subplots()
    classes = [None] if labels is None else list(np.unique(labels))
    members = [
        np.full(len(z), True) if one is None else np.asarray(labels) == one for one in classes
    ]
    names = [None if one is None else str(one) for one in classes]
    colors: list[Any] = (
        [f"C{index}" for index in range(10)] if len(classes) <= 10 else _spectrum(len(classes))
    )
    if z.shape[1] == 1:
        edges = np.histogram_bin_edges(z[:, 0], bins=50).tolist()
        for chosen, name, color in zip(members, names, colors, strict=False):
            axes.hist(z[chosen, 0], edges, histtype="step", label=name, color=color)
        axes.set(xlabel="$z$", ylabel="data")
    else:
        points, (across, up) = _two_dimensions(z)
        for chosen, name, color in zip(members, names, colors, strict=False):
            shown = points[chosen][:_POINTS]
            axes.scatter(
                shown[:, 0], shown[:, 1], s=6, alpha=0.7, linewidths=0, label=name, color=color
            )
        axes.set(xlabel=across, ylabel=up)
        center = (points.max(0) + points.min(0)) / 2
        reach = 0.525 * max(float(np.ptp(points, axis=0).max()), 1e-6)
        axes.set(
            xlim=(center[0] - reach, center[0] + reach),
            ylim=(center[1] - reach, center[1] + reach),
            box_aspect=1,
        )
    if 1 < len(classes) <= 20:
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, markerscale=2)
    axes.set_title(title or "")
    return figure


def loss_curves(history: History) -> Figure:
    """One panel per column of the history over the epochs; "validation/X" shares the panel of X,
    "validation" that of "loss".

    Raises:
        ValueError: when the history has no rows.
    """
    if not len(history):
        raise ValueError("The history is empty: there are no losses to draw.")
    curves = [
        name for name in history.columns if name not in _NOT_CURVES and _numeric(history, name)
    ]
    names = [name for name in curves if name != "validation" and not name.startswith("validation/")]
    epochs = (
        history.column("epoch") if "epoch" in history.columns else np.arange(1, len(history) + 1)
    )
    num_columns = min(3, len(names))
    num_rows = math.ceil(len(names) / num_columns)
    figure = _figure(4 * num_columns, 2.8 * num_rows)
    panels: list[Axes] = (
        figure.subplots(num_rows, num_columns, squeeze=False, sharex=True).ravel().tolist()
    )
    for panel, name in zip(panels, names, strict=False):
        mark = "o" if len(history) == 1 else ""
        panel.plot(epochs, history.column(name), mark + "-", label="training", markersize=4)
        held_out = "validation" if name == "loss" else f"validation/{name}"
        if held_out in curves:
            panel.plot(
                epochs, history.column(held_out), mark + "--", label="validation", markersize=4
            )
            panel.legend(frameon=False)
        panel.set_title(name, fontsize=10)
        panel.grid(alpha=0.3)
    for panel in panels[len(names) :]:
        panel.set_visible(False)
    for panel in panels[max(0, len(names) - num_columns) : len(names)]:
        panel.tick_params(labelbottom=True)
    figure.supxlabel("epoch", fontsize=10)
    figure.supylabel("nats per datum", fontsize=10)
    return figure


def pair_plot(
    draws: np.ndarray | Mapping[str, np.ndarray],
    *,
    names: Sequence[str] | None = None,
    max_dims: int = 6,
) -> Figure:
    """Marginal histograms on the diagonal, pairs of dimensions below it.

    Args:
        draws: (num_draws, dim), or several of them by label, drawn over each other (two guides, a
            guide and a reference).
        names: of the dimensions.
        max_dims: only the first so many dimensions are shown.

    Raises:
        ValueError: when a set of draws is not (num_draws, dim) with the same dim, or the number of
            names is not dim.
    """
    sets = dict(draws) if isinstance(draws, Mapping) else {"": draws}
    sets = {label: np.asarray(values, np.float64) for label, values in sets.items()}
    shapes = [values.shape for values in sets.values()]
    if not sets or any(
        len(shape) != 2 or shape[1:] != shapes[0][1:] or 0 in shape for shape in shapes
    ):
        raise ValueError(
            "draws must be (num_draws, dim) with one dim for all and not empty, got shapes "
            f"{shapes}."
        )
    dim = shapes[0][1]
    names = [f"$z_{{{index + 1}}}$" for index in range(dim)] if names is None else list(names)
    if len(names) != dim:
        raise ValueError(f"names must be one per dimension, got {len(names)} for {dim}.")
    for label, values in sets.items():
        _check_finite(f"draws{label and f' {label!r}'}", values)
    dim = min(dim, max_dims)
    figure = _figure(1.0 + 1.7 * dim, 1.0 + 1.7 * dim)
    panels: list[list[Axes]] = figure.subplots(dim, dim, squeeze=False, sharex="col").tolist()
    for row, column in np.ndindex(dim, dim):
        panel = panels[row][column]
        if column > row:
            panel.set_visible(False)
            continue
        _pair_panel(panel, sets, row, column)
        panel.tick_params(
            labelsize=7, labelbottom=row == dim - 1, labelleft=column == 0 and row > 0
        )
        if row == dim - 1:
            panel.set_xlabel(names[column])
        if column == 0 and row > 0:
            panel.set_ylabel(names[row])
    if any(sets):
        handles = [
            panels[0][0].plot([], [], color=f"C{index}", label=label)[0]
            for index, label in enumerate(sets)
        ]
        figure.legend(handles=handles, loc="upper right", frameon=False)
    return figure


def _pair_panel(panel: Axes, sets: Mapping[str, np.ndarray], row: int, column: int) -> None:
    for index, values in enumerate(sets.values()):
        if row == column:
            panel.hist(values[:, row], bins=40, density=True, histtype="step", color=f"C{index}")
            panel.set_yticks([])
        else:
            panel.plot(
                values[:_POINTS, column],
                values[:_POINTS, row],
                ".",
                markersize=2,
                alpha=0.4,
                color=f"C{index}",
            )


def _two_dimensions(z: np.ndarray) -> tuple[np.ndarray, tuple[str, str]]:
    """(num_data, 2) with the names of the axes: z itself or its first two principal components."""
    if z.shape[1] == 2:
        return z, ("$z_1$", "$z_2$")
    centered = z - z.mean(0)
    _, scales, directions = np.linalg.svd(centered, full_matrices=False)
    shares = scales**2 / max(float((scales**2).sum()), np.finfo(float).tiny)
    points = np.zeros((len(z), 2))
    points[:, : len(directions[:2])] = (
        centered @ directions[:2].T
    )  # a single datum has one direction only
    first, second = (*shares, 0.0)[:2]
    return points, (
        f"principal component 1 ({first:.0%} of the variance)",
        f"principal component 2 ({second:.0%})",
    )


def _check_finite(name: str, x: np.ndarray) -> None:
    if bad := x.size - np.count_nonzero(np.isfinite(x)):
        raise ValueError(f"{name} must be finite to be drawn, {bad} of {x.size} numbers are not.")


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
    _check_finite("x", x)
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


def _spectrum(num_colors: int) -> list[Any]:
    from matplotlib import colormaps

    return [tuple(color) for color in colormaps["turbo"](np.linspace(0.05, 0.95, num_colors))]


def _numeric(history: History, name: str) -> bool:
    return all(isinstance(row.get(name, 0.0), (int, float, np.number)) for row in history)


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout="constrained")
