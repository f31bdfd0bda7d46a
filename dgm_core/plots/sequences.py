"""Pictures of sequences: paths with bands, forecasts, piano rolls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dgm_core.arguments import check_count, check_floats, check_numbers, refuse
from dgm_core.plots.base import check_finite, new_figure

__all__ = ["bands", "piano_rolls"]

_LEVELS = (0.9, 0.5)


def bands(
    draws: Any,
    *,
    x: Any = None,
    start: int = 0,
    levels: Sequence[float] = _LEVELS,
    names: Sequence[str] | None = None,
    title: str | None = None,
) -> Figure:
    """Paths over time as central intervals of their draws, about the median: latent paths, or a
    forecast behind what is known.

    Args:
        draws: (num_draws, T, dim), of the steps `start`, ..., start + T - 1; or several of them by
            label, drawn over each other.
        x: (length, dim), what is known of the steps 0, 1, ...; NaN where it is not.
        start: the step of the first draw, such as the length of the prefix of a forecast.
        levels: the shares of draws that the bands hold.
        names: of the dimensions, a panel each.
        title: above all panels.

    Raises:
        ValueError: for shapes that do not fit, and draws that are not finite.

    Example:
        >>> bands(np.random.default_rng(0).normal(size=(100, 12, 1)), start=5).get_axes()[0]
        <Axes: xlabel='step $t$', ylabel='1'>
    """
    sets = dict(draws) if isinstance(draws, Mapping) else {"": draws}
    sets = {label: check_floats("draws", values) for label, values in sets.items()}
    dims = {values.shape[2:] for values in sets.values()}
    if not sets or len(dims) > 1 or any(v.ndim != 3 or not v.size for v in sets.values()):
        shapes = [values.shape for values in sets.values()]
        refuse("draws", "(num_draws, T, dim), with one dim for all, not empty", shapes)
    ((dim,),) = dims
    start, levels = (
        check_count("start", start, 0),
        check_numbers("levels", levels, above=0, below=1),
    )
    for label, values in sets.items():
        check_finite(f"draws{label and f' {label!r}'}", values)
    known = None if x is None else check_floats("x", x)
    if known is not None and (known.ndim != 2 or known.shape[1] != dim):
        refuse("x", f"(length, {dim})", known.shape)
    names = [str(index + 1) for index in range(dim)] if names is None else list(names)
    if len(names) != dim:
        raise ValueError(f"names must be one per dimension, got {len(names)} for {dim}.")
    figure = new_figure(8, 0.6 + 1.9 * dim)
    panels: list[Axes] = figure.subplots(dim, 1, squeeze=False, sharex=True).ravel().tolist()
    for index, panel in enumerate(panels):
        for number, (label, values) in enumerate(sets.items()):
            _band(panel, values[..., index], start, levels, f"C{number}", label)
        if known is not None:
            panel.plot(known[:, index], "k.-", markersize=3, linewidth=0.8)
        panel.set_ylabel(names[index])
        panel.grid(alpha=0.3)
    if any(sets):
        panels[0].legend(frameon=False, loc="upper left")
    panels[-1].set_xlabel("step $t$")
    if title:
        figure.suptitle(title, fontsize=10)
    return figure


def _band(
    panel: Axes, draws: np.ndarray, start: int, levels: Sequence[float], color: str, label: str
) -> None:
    """Intervals and median of draws (num_draws, T)."""
    steps = np.arange(start, start + draws.shape[1])
    ends = np.quantile(draws, [[(1 - level) / 2, (1 + level) / 2] for level in levels], axis=0)
    for lower, upper in ends:
        panel.fill_between(steps, lower, upper, color=color, alpha=0.25, linewidth=0)
    panel.plot(steps, np.median(draws, 0), color=color, label=label or None)


def piano_rolls(
    rolls: Mapping[str, Any],
    *,
    lengths: Any = None,
    max_sequences: int = 4,
    keys: tuple[int, int] | None = None,
) -> Figure:
    """Piano rolls, time to the right and keys upward, sequences side by side: the data above, what
    a model makes of them below.

    Args:
        rolls: label -> (num, T, keys), values from 0 (white) to 1 (black): data, probabilities of a
            reconstruction, draws.
        lengths: (num,), the steps that are shown of each sequence; all of them where left out.
        max_sequences: only the first so many are shown.
        keys: the first key that is shown and the last one; by default those between which there is
            anything.

    Raises:
        ValueError: for shapes that differ, and values outside [0, 1].

    Example:
        >>> x = np.random.default_rng(0).random((3, 20, 88)) < 0.05
        >>> len(piano_rolls({"data": x, "draws": x}, lengths=[20, 9, 15]).get_axes())
        6
    """
    arrays = {label: check_floats(label, roll) for label, roll in rolls.items()}
    shapes = [roll.shape for roll in arrays.values()]
    if not shapes or len(shapes[0]) != 3 or set(shapes) != {shapes[0]} or 0 in shapes[0]:
        refuse("rolls", "arrays (num, T, keys) of one shape, not empty", shapes)
    num = min(shapes[0][0], check_count("max_sequences", max_sequences))
    ends = np.full(num, shapes[0][1]) if lengths is None else np.asarray(lengths)[:num]
    if ends.shape != (num,) or ends.min() < 1 or ends.max() > shapes[0][1]:
        refuse("lengths", f"integers from 1 to {shapes[0][1]}, one for each sequence", lengths)
    for label, roll in arrays.items():
        check_finite(label, roll)
        if roll.min() < 0 or roll.max() > 1:
            refuse(label, "values from 0 to 1", roll)
    low, high = keys or _used(np.concatenate(list(arrays.values())))
    figure = new_figure(1 + 2.8 * num, 0.5 + 1.7 * len(arrays))
    panels = figure.subplots(len(arrays), num, squeeze=False, sharex="col", sharey=True)
    for row, (label, roll) in zip(panels, arrays.items()):
        for panel, sequence, end in zip(row, roll, ends):
            shown = sequence[:end, low : high + 1].T
            box = (-0.5, end - 0.5, low - 0.5, high + 0.5)
            panel.imshow(
                shown, cmap="Greys", vmin=0, vmax=1, aspect="auto", origin="lower", extent=box
            )
            panel.tick_params(labelsize=7)
        row[0].set_ylabel(f"{label}\nkey")
    for panel in panels[-1]:
        panel.set_xlabel("step $t$")
    return figure


def _used(rolls: np.ndarray) -> tuple[int, int]:
    """The keys between which there is anything."""
    found = np.flatnonzero(rolls.max((0, 1)) > 0.05)
    return (int(found[0]), int(found[-1])) if len(found) else (0, rolls.shape[-1] - 1)
