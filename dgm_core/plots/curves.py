"""Pictures of numbers of runs: losses over the epochs, rate against distortion."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dgm_core.arguments import check_floats
from dgm_core.plots.base import check_finite, new_figure
from dgm_core.results import History

__all__ = ["loss_curves", "rate_distortion"]

_NOT_CURVES = ("epoch", "step", "seconds")


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
    figure = new_figure(4 * num_columns, 2.8 * num_rows)
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


def rate_distortion(
    rate: np.ndarray, distortion: np.ndarray, labels: Sequence[str] | None = None
) -> Figure:
    """Runs in the plane of rate and distortion, joined in the order of their rate, over lines of
    equal ELBO = -(rate + distortion).

    Args:
        rate, distortion: (num_runs,), in nats per datum.
        labels: of the runs.

    Raises:
        ValueError: for other shapes, values that are not finite, and other numbers of labels.

    Example:
        >>> rate_distortion([1.0, 5.0], [90.0, 80.0], ["a", "b"]).axes[0].get_xlabel()
        'rate: mean KL (nats)'
    """
    rate, distortion = check_floats("rate", rate), check_floats("distortion", distortion)
    if rate.ndim != 1 or rate.shape != distortion.shape or not len(rate):
        raise ValueError(
            "rate and distortion must be (num_runs,) with a run or more, got shapes "
            f"{rate.shape} and {distortion.shape}."
        )
    check_finite("rate", rate)
    check_finite("distortion", distortion)
    if labels is not None and len(labels) != len(rate):
        raise ValueError(f"labels must be one per run, got {len(labels)} for {len(rate)} runs.")
    figure = new_figure(6, 4.5)
    axes = figure.subplots()
    order = np.argsort(rate)
    axes.plot(rate[order], distortion[order], "o-", color="C0", linewidth=1)
    for index, label in enumerate(labels or ()):
        place = (float(rate[index]), float(distortion[index]))
        axes.annotate(label, place, xytext=(5, 4), textcoords="offset points", fontsize=8)
    axes.margins(0.15)
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    left = min(left, 0.0)
    across, up = np.meshgrid(np.linspace(left, right), np.linspace(low, high))
    lines = axes.contour(
        across, up, -(across + up), 8, colors="gray", linewidths=0.6, linestyles=":"
    )
    axes.clabel(lines, fontsize=7, fmt="ELBO %g")
    axes.set(xlabel="rate: mean KL (nats)", ylabel="distortion: $-E_q[\\log p(x \\mid z)]$ (nats)")
    return figure


def _numeric(history: History, name: str) -> bool:
    return all(isinstance(row.get(name, 0.0), (int, float, np.number)) for row in history)
