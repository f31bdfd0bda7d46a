"""Pictures of codes and draws: points colored by class, marginals and pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dgm_core.plots.base import check_finite, new_figure

__all__ = ["latent_scatter", "pair_plot"]

_POINTS = 5_000  # more in one scatter plot show nothing more


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
    check_finite("z", z)
    if labels is not None and np.shape(labels) != (len(z),):
        raise ValueError(
            f"labels must be one number per datum, got shape {np.shape(labels)} for {len(z)} data."
        )
    figure = new_figure(5.5, 5)
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
        check_finite(f"draws{label and f' {label!r}'}", values)
    dim = min(dim, max_dims)
    figure = new_figure(1.0 + 1.7 * dim, 1.0 + 1.7 * dim)
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


def _spectrum(num_colors: int) -> list[Any]:
    from matplotlib import colormaps

    return [tuple(color) for color in colormaps["turbo"](np.linspace(0.05, 0.95, num_colors))]
