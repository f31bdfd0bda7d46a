"""The pictures of a report, each of what it is given: numbers that are not finite are left out, and
the title says so.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dgm_core import plots
from dgm_core.diagnostics import KHAT_BANDS, Report, iwae_bound
from dgm_core.report.facts import Observed

__all__ = [
    "formula_png",
    "image_shape_of",
    "page_of",
    "plot_draws",
    "plot_reconstructions",
    "plot_samples",
    "plot_weights",
    "png_of",
    "printable",
]

_PAIRS, _COLUMNS = 6, 50  # entries of a pair plot; with more, its first ones say nothing
_POINTS = 5_000  # more in one scatter plot show nothing more
_IMAGES, _ROWS = 64, 40  # in a grid, in pairs of rows


def image_shape_of(site: Observed, given: tuple[int, int, int] | None) -> tuple[int, ...] | None:
    """The shape (channels, height, width) in which values are shown as images: as given, where it
    fits; else that of an event of three dimensions, one or three channels, of values in [0, 1].

    Example:
        >>> image_shape_of(Observed(np.zeros((5, 1, 8, 8)), 3), None)
        (1, 8, 8)
    """
    shape = site.event_shape
    if given is not None:
        return given if math.prod(shape) == math.prod(given) and shape else None
    seen = site.values[np.isfinite(site.values)]
    inside = seen.size > 0 and seen.min() >= 0 and seen.max() <= 1
    return shape if len(shape) == 3 and shape[0] in (1, 3) and inside else None


def plot_weights(log_w: np.ndarray, found: Report) -> Figure:
    """How good the importance weights are: the bound over the number of particles, the share of
    effective draws and k-hat over the data; of a single datum its weights, largest first.

    Args:
        log_w: (num_particles, num_data).
        found: what `summary` says of them.
    """
    num_particles, num_data = log_w.shape
    figure = Figure(figsize=(9.6, 2.9), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    counts = np.unique(np.geomspace(1, num_particles, 12).astype(int))
    bounds = [_bound_of(log_w, count) for count in counts]
    left.plot(counts, bounds, "o-", markersize=3)
    left.set(xscale="log", xlabel="particles $K$", ylabel="nats", title="IWAE-$K$")
    if num_data > 1:
        shares = found["ESS"] / num_particles
        middle.hist(shares[np.isfinite(shares)], np.linspace(0, 1, 31).tolist(), color="C0")
        middle.set(xlabel="effective draws / draws", ylabel="data", title="effective sample size")
    else:
        with np.errstate(invalid="ignore"):  # all weights are zero
            weights = np.exp(np.sort(log_w[:, 0])[::-1] - log_w.max())
        middle.plot(np.arange(1, num_particles + 1), weights / weights.sum(), "-")
        middle.set(xscale="log", xlabel="rank", ylabel="share of all", title="weights")
    _plot_khat(right, found)
    for axes in (left, middle, right):
        _small(axes)
    return figure


def _bound_of(log_w: np.ndarray, count: int) -> float:
    """The mean IWAE bound of `count` particles, over all groups of so many that there are."""
    num_groups = len(log_w) // count
    groups = log_w[: num_groups * count].reshape(num_groups, count, -1)
    return float(np.mean(iwae_bound(groups.swapaxes(0, 1))))


def _plot_khat(axes: Axes, found: Report) -> None:
    axes.set_title("k-hat")
    if "k-hat" not in found:
        axes.text(0.5, 0.5, "too few particles", ha="center", transform=axes.transAxes)
        return
    khat = found["k-hat"]
    shown = khat[np.isfinite(khat)]
    if khat.size > 1:
        low, high = (shown.min(), shown.max()) if shown.size else (0.0, 1.0)
        axes.hist(shown, np.linspace(min(low, 0.0), max(high, 1.0), 31).tolist(), color="C0")
        axes.set_ylabel("data")
    elif shown.size:
        axes.plot(shown, [0.5], "o")
        axes.set(xlim=(min(-0.2, shown[0] - 0.2), max(1.3, shown[0] + 0.2)), ylim=(0, 1), yticks=[])
    bounded, absent = int(np.isneginf(khat).sum()), int(np.isnan(khat).sum())
    words = [f"{bounded} bounded"] * bool(bounded) + [f"{absent} without a weight"] * bool(absent)
    axes.text(0.98, 0.95, "\n".join(words), ha="right", va="top", transform=axes.transAxes)
    for low, _, _ in KHAT_BANDS[1:]:
        axes.axvline(low, color="0.6", linestyle="--", linewidth=0.8)
    axes.set_xlabel("shape of the largest weights")


def plot_reconstructions(
    site: Observed, means: np.ndarray, image_shape: tuple[int, ...] | None
) -> Figure:
    """Data beside their means given a draw of the latents: images in pairs of rows, two to six
    entries as clouds, all else as one point for each number.

    Args:
        site: the data.
        means: (*batch, *event), of the first of them.
    """
    x, mean = site.points(site.values), site.points(means)
    x = x[: len(mean)]
    if image_shape is not None:
        return plots.reconstructions(x[:_ROWS], mean[:_ROWS], image_shape)
    if 1 < x.shape[1] <= _PAIRS:
        return _clouds({"data": x, "reconstructions": mean})
    (x, mean), words = _finite(x.ravel(), mean.ravel())
    figure = Figure(figsize=(4.2, 4), layout="constrained")
    axes = figure.subplots()
    order = np.random.default_rng(0).permutation(len(x))[:_POINTS]
    axes.plot(x[order], mean[order], ".", markersize=3 if len(x) > 200 else 8, alpha=0.5)
    if len(x):
        ends = [min(x.min(), mean.min()), max(x.max(), mean.max())]
        axes.plot(ends, ends, color="0.6", linewidth=0.8)
    axes.set(xlabel="data", ylabel="reconstruction", title=words)
    return _small(axes)


def plot_samples(site: Observed, drawn: np.ndarray, image_shape: tuple[int, ...] | None) -> Figure:
    """What the model generates: images in a grid, two to fifty entries as clouds over the
    data (the first six), all else as histograms of all numbers.

    Args:
        site: the data.
        drawn: (*batch, *event), as many as there are.
    """
    x, made = site.points(site.values), site.points(drawn)
    if image_shape is not None:
        return plots.samples_grid(made[:_IMAGES], image_shape)
    if 1 < x.shape[1] <= _COLUMNS:
        return _clouds({"data": x, "samples": made})
    (seen,), words = _finite(x.ravel())
    (samples,), more = _finite(made.ravel())
    figure = Figure(figsize=(4.6, 3.2), layout="constrained")
    axes = figure.subplots()
    both = np.concatenate([seen, samples])
    low, high = np.quantile(both, (0.001, 0.999)) if len(both) else (0.0, 1.0)
    num_bins = int(np.clip(2 * np.sqrt(len(seen)), 8, 50))  # few data have few bins
    edges = np.linspace(low, max(high, low + 1e-9), num_bins + 1).tolist()
    for label, values in (("data", seen), ("samples", samples)):
        axes.hist(values, edges, density=len(values) > 0, histtype="step", label=label)
    axes.legend(frameon=False, fontsize=8)
    axes.set(xlabel="value", ylabel="density", title=words or more)
    return _small(axes)


def plot_draws(draws: Mapping[str, np.ndarray], names: Sequence[str]) -> Figure:
    """The first entries of some latents as a pair plot.

    Args:
        draws: site -> (num_draws, ...).
        names: the sites.
    """
    columns, labels = [], []
    for name in names:
        flat = np.asarray(draws[name], np.float64).reshape(len(draws[name]), -1)
        columns.append(flat)
        labels += [_entry(name, flat.shape[1], index) for index in range(flat.shape[1])]
    kept = min(len(labels), _PAIRS)
    return plots.pair_plot(np.concatenate(columns, 1)[:, :kept], names=labels[:kept])


def page_of(figures: Mapping[str, Figure]) -> Figure:
    """All figures below each other on one page, each under its name."""
    shown = {name: _pixels(figure) for name, figure in figures.items()}
    heights = [8.0 * x.shape[0] / x.shape[1] + 0.3 for x in shown.values()]
    page = Figure(figsize=(8, max(1.0, sum(heights))), layout="constrained")
    if not shown:
        return page
    panels = page.subplots(len(shown), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, (name, picture) in zip(panels, shown.items(), strict=True):
        axes.imshow(picture, interpolation="antialiased")
        axes.set_title(_plain(name), fontsize=10)
        axes.set_axis_off()
    return page


def png_of(figure: Figure, dpi: int = 110) -> bytes:
    """A figure as the bytes of a PNG."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=dpi)
    return file.getvalue()


def formula_png(latex: str) -> bytes:
    """A formula as the bytes of a PNG. Raises ValueError for LaTeX that matplotlib cannot draw."""
    figure = Figure()
    figure.text(0, 0, f"${latex}$", fontsize=15)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=150, bbox_inches="tight", pad_inches=0.08)
    return file.getvalue()


def printable(text: str) -> str:
    """Text in which nothing is a control character or half a character.

    Example:
        >>> printable("a\\x00b")
        'a\ufffdb'
    """
    kept = (c if c in "\n\t" or not (c < " " or "\x7f" <= c < "\xa0") else "\ufffd" for c in text)
    return "".join(kept).encode("utf-8", "replace").decode()


def _pixels(figure: Figure) -> np.ndarray:
    from matplotlib.image import imread

    return imread(io.BytesIO(png_of(figure, 160)))


def _clouds(sets: dict[str, np.ndarray]) -> Figure:
    names = [f"$x_{{{index + 1}}}$" for index in range(next(iter(sets.values())).shape[1])]
    finite = {label: x[np.isfinite(x).all(1)] for label, x in sets.items()}
    figure = plots.pair_plot(finite, names=names)
    if missing := {label: len(sets[label]) - len(x) for label, x in finite.items()}:
        words = [f"{num} {label} not finite" for label, num in missing.items() if num]
        figure.suptitle(", ".join(words), fontsize=9)
    return figure


def _finite(*arrays: np.ndarray) -> tuple[tuple[np.ndarray, ...], str]:
    """The places where all arrays are finite, and what to say of the others."""
    good = np.logical_and.reduce([np.isfinite(x) for x in arrays])
    missing = int(np.sum(~good))
    return tuple(x[good] for x in arrays), f"{missing} not finite" if missing else ""


def _entry(name: str, size: int, index: int) -> str:
    return _plain(name if size == 1 else f"{name}[{index}]")


def _plain(text: str) -> str:
    """Text that matplotlib does not take for a formula."""
    return printable(text).replace("$", r"\$")


def _small(axes: Axes) -> Figure:
    axes.tick_params(labelsize=8)
    axes.title.set_fontsize(10)
    axes.grid(alpha=0.3)
    figure = axes.get_figure()
    assert isinstance(figure, Figure)
    return figure
