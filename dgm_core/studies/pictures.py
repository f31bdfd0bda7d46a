"""Pictures of studies: guides side by side, and what calibration found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from scipy import stats

__all__ = ["plot_comparison", "plot_coverage", "plot_ecdf", "plot_ranks"]

_PANELS = (  # title, columns with their marks, whether the axis is logarithmic, a limit to draw
    ("nats (ELBO o, IWAE |)", (("ELBO", "o"), ("IWAE", "|")), False, None),
    ("k-hat", (("khat", "o"),), False, 0.7),
    ("error / sd (mean o, sd x)", (("mean error", "o"), ("sd error", "x")), True, 0.1),
    ("distance / sd", (("distance", "o"),), True, None),
    ("ms per step", (("ms per step", "o"),), True, None),
)


Rows = Sequence[Mapping[str, Any]]


def plot_comparison(rows: Rows) -> Figure:
    """One line per guide and objective, a point per seed, and for each group of columns a panel;
    a guide that failed says so.

    Args:
        rows: of a `Comparison`.

    Example:
        >>> row = {"guide": "a", "objective": "ELBO", "seed": 0, "ELBO": -3.0, "IWAE": -2.9}
        >>> len(plot_comparison([row]).axes)
        1
    """
    labels = list(dict.fromkeys(_label(row, rows) for row in rows))
    places = {label: len(labels) - 1 - number for number, label in enumerate(labels)}
    panels = [panel for panel in _PANELS if any(_known(rows, name) for name, _ in panel[1])]
    panels = panels or [_PANELS[0]]
    size = (2.2 + 2.4 * len(panels), 1.2 + 0.34 * len(labels))
    figure = Figure(figsize=size, layout="constrained")
    for number, (axes, panel) in enumerate(
        zip(figure.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels, strict=True)
    ):
        _draw_panel(axes, rows, places, panel)
        if number == 0:
            axes.set_yticks(list(places.values()), labels)
            axes.set_ylim(-0.6, len(labels) - 0.4)
            for label, reason in _failures(rows).items():
                axes.annotate(
                    reason[:42] + ("..." if len(reason) > 42 else ""),
                    (0.02, places[label]),
                    xycoords=("axes fraction", "data"),
                    va="center",
                    fontsize=7,
                    color="C3",
                )
        axes.tick_params(axis="y", length=0)
    return figure


def _draw_panel(axes: Axes, rows: Rows, places: dict[str, int], panel: Any) -> None:
    title, columns, logarithmic, limit = panel
    floor = _floor(rows) if title.startswith("nats") else -np.inf
    colors = {label: f"C{(len(places) - 1 - place) % 10}" for label, place in places.items()}
    for name, mark in columns:
        for row in rows:
            value = row.get(name)
            if value is None or not np.isfinite(value) or (logarithmic and value <= 0):
                continue
            label = _label(row, rows)
            shown = "<" if value < floor else mark  # far below: an arrow at the edge
            width = 9 if shown == "|" else 5
            at = max(value, floor), places[label]
            axes.plot(*at, shown, fillstyle="none", color=colors[label], markersize=width)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    if logarithmic:
        axes.set_xscale("log")
        low, high = axes.get_xlim()
        locator = LogLocator(subs=(1, 2, 5)) if high >= 10 * low else MaxNLocator(4)
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
    if limit is not None:
        axes.axvline(limit, color="0.6", linestyle="--", linewidth=0.8)
    axes.set_title(title, fontsize=9)
    axes.grid(axis="x", alpha=0.3)
    axes.tick_params(labelsize=8)


def _floor(rows: Rows) -> float:
    """Where the axis of bounds ends, so that a guide that failed to train does not hide how the
    others differ."""
    bounds = np.array([row["ELBO"] for row in rows if row.get("ELBO") is not None])
    if not len(bounds):
        return -np.inf
    best = float(bounds.max())
    return best - max(1.0, 6 * float(best - np.median(bounds)))


def _label(row: Mapping[str, Any], rows: Rows) -> str:
    several = len({other["objective"] for other in rows}) > 1
    return f"{row['guide']}, {row['objective']}" if several else str(row["guide"])


def _known(rows: Rows, name: str) -> bool:
    return any(row.get(name) is not None for row in rows)


def _failures(rows: Rows) -> dict[str, str]:
    """Why there is nothing to see of a guide."""
    bare = {_label(row, rows): row for row in rows if row.get("failed")}
    seen = {_label(row, rows) for row in rows if row.get("ELBO") is not None}
    return {label: str(row["failed"]) for label, row in bare.items() if label not in seen}


def plot_ranks(columns: np.ndarray, labels: Sequence[str], edges: np.ndarray) -> Figure:
    """Histograms of ranks (num_simulations, num_entries), the first twelve entries, with the band
    that holds each count with probability 0.99 if ranks are uniform.

    Args:
        columns: the ranks.
        labels: of the entries.
        edges: the first rank of each bin, and one more than the last rank.

    Example:
        >>> ranks = np.random.default_rng(0).integers(0, 100, (200, 2))
        >>> len(plot_ranks(ranks, ["a", "b"], np.arange(0, 101, 5)).axes)
        2
    """
    binomial = stats.binom(len(columns), np.diff(edges) / edges[-1])
    low, high, sides = binomial.ppf(0.005), binomial.ppf(0.995), edges - 0.5
    figure, panels = _grid(labels)
    for panel, label, ranks in zip(panels, labels, columns.T, strict=False):
        panel.stairs(high, sides, baseline=low, fill=True, color="0.88", zorder=0)
        panel.hist(ranks, sides.tolist(), color="C0", alpha=0.8)
        panel.set_title(label, fontsize=9)
    figure.supxlabel("rank of the truth among the draws", fontsize=9)
    return figure


def plot_ecdf(
    columns: np.ndarray,
    labels: Sequence[str],
    num_draws: int,
    band: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> Figure:
    """The distribution functions of ranks less the uniform one, in a band (see `ecdf_band`)."""
    points, low, high = band
    figure, panels = _grid(labels)
    for panel, label, ranks in zip(panels, labels, columns.T, strict=False):
        below = np.searchsorted(np.sort(ranks), points * (num_draws + 1)) / len(ranks)
        panel.fill_between(points, low - points, high - points, color="0.88", zorder=0)
        outside = (below < low) | (below > high)
        panel.plot(points, below - points, color="C3" if outside.any() else "C0")
        panel.set_title(label, fontsize=9)
    figure.supxlabel("rank / (number of draws + 1)", fontsize=9)
    figure.supylabel("distribution function - uniform", fontsize=9)
    return figure


def plot_coverage(
    levels: np.ndarray, columns: np.ndarray, labels: Sequence[str], num_simulations: int
) -> Figure:
    """The coverage of central intervals (num_levels, num_entries) over their level, with the band
    of two standard errors."""
    figure = Figure(figsize=(4.5, 4), layout="constrained")
    axes = figure.subplots()
    error = 2 * np.sqrt(levels * (1 - levels) / num_simulations)
    axes.fill_between(levels, levels - error, levels + error, color="0.88", zorder=0)
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=0.8)
    for number, (label, found) in enumerate(zip(labels[:_ENTRIES], columns.T, strict=False)):
        axes.plot(levels, found, color=f"C{number % 10}", label=label, linewidth=1)
    if len(labels) <= 10:
        axes.legend(frameon=False, fontsize=8)
    axes.set(xlabel="level of the interval", ylabel="holds the truth", xlim=(0, 1), ylim=(0, 1))
    return figure


_ENTRIES = 12  # more panels show nothing more


def _grid(labels: Sequence[str]) -> tuple[Figure, list[Axes]]:
    """A figure with a panel for each of the first entries."""
    num = min(len(labels), _ENTRIES)
    num_columns = min(4, num)
    num_rows = -(-num // num_columns)
    figure = Figure(figsize=(2.4 * num_columns + 0.4, 1.8 * num_rows + 0.4), layout="constrained")
    grid = figure.subplots(num_rows, num_columns, squeeze=False, sharex=True, sharey=True)
    panels: list[Axes] = grid.ravel().tolist()
    for panel in panels:
        panel.tick_params(labelsize=7)
    for panel in panels[num:]:
        panel.set_visible(False)
    return figure, panels[:num]
