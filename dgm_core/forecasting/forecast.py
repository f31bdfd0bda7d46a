"""What a forecast is: draws of what follows sequences, their intervals, and how good they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dgm_core.arguments import check_count, check_number, refuse
from dgm_core.forecasting.scores import coverage, crps, interval_score
from dgm_core.results import format_table

__all__ = ["Forecast", "following"]


@dataclass(frozen=True, repr=False)
class Forecast:
    """Draws of the steps that follow sequences.

    Args:
        draws: site -> (num_draws, num_data, horizon, *step), of every sequence behind its own end.
        lengths: (num_data,), the steps that were known.

    Example:
        >>> draws = np.arange(5.0).reshape(5, 1, 1, 1)
        >>> forecast = Forecast({"x": draws}, np.array([7]))
        >>> forecast
        Forecast(x: draws 5, sequences 1, steps ahead 1, of (1,), means from 2 to 2)
        >>> forecast.mean()[0, 0], [end[0, 0] for end in forecast.interval(0.5)]
        (array([2.]), [array([1.]), array([3.])])
    """

    draws: Mapping[str, np.ndarray]
    lengths: np.ndarray

    def __repr__(self) -> str:
        return f"Forecast({'; '.join(_described(*item) for item in self.draws.items())})"

    def of(self, site: str | None = None) -> np.ndarray:
        """The draws of a site; of the one that there is, or of "x", where none is named.

        Raises:
            ValueError: for a site that was not forecast.
        """
        names = list(self.draws)
        name = site or (names[0] if len(names) == 1 else "x")
        if name not in self.draws:
            raise ValueError(f"site must be one of {', '.join(names)}, got {site!r}.")
        return self.draws[name]

    def mean(self, site: str | None = None) -> np.ndarray:
        """The mean of the draws (num_data, horizon, *step)."""
        return self.of(site).mean(0)

    def quantile(self, levels: Any, site: str | None = None) -> np.ndarray:
        """Quantiles of the draws (*levels, num_data, horizon, *step)."""
        return np.quantile(self.of(site), levels, axis=0)

    def interval(self, level: float = 0.9, site: str | None = None) -> tuple[np.ndarray, ...]:
        """The ends of central intervals that hold this share of the draws, each (num_data, horizon,
        *step).
        """
        level = check_number("level", level, above=0, below=1)
        return tuple(self.quantile([(1 - level) / 2, (1 + level) / 2], site))

    def scores(self, x: Any, *, level: float = 0.9, site: str | None = None) -> dict[str, float]:
        """How good the forecast of x (num_data, horizon, *step) is, over all its entries: "CRPS",
        "error" of the median, "coverage" and "interval score" of intervals of this level, "width".

        Raises:
            ValueError: for another shape, and NaN.
        """
        median, (lower, upper) = self.quantile(0.5, site), self.interval(level, site)
        return {
            "CRPS": float(crps(self.of(site), x).mean()),
            "error": float(np.abs(median - x).mean()),
            "coverage": coverage(lower, upper, x),
            "interval score": float(interval_score(lower, upper, x, level).mean()),
            "width": float((upper - lower).mean()),
        }

    def table(self, x: Any, *, level: float = 0.9, site: str | None = None) -> str:
        """The scores of each step ahead, and of all, as a table."""
        x, draws = np.asarray(x), self.of(site)
        rows: list[dict[str, Any]] = []
        for step in range(draws.shape[2]):
            one = Forecast({"x": draws[:, :, step : step + 1]}, self.lengths)
            rows.append({"ahead": step + 1, **one.scores(x[:, step : step + 1], level=level)})
        rows.append({"ahead": "all", **self.scores(x, level=level, site=site)})
        return format_table(rows, digits=3)


def _described(site: str, draws: np.ndarray) -> str:
    """A site in one line: how many draws, of what, and where their means lie."""
    count, sequences, horizon, *step = draws.shape
    text = f"{site}: draws {count}, sequences {sequences}, steps ahead {horizon}, of {tuple(step)}"
    if not draws.size:
        return text
    mean = draws.mean(0)
    return f"{text}, means from {mean.min():.4g} to {mean.max():.4g}"


def following(x: Any, lengths: Any, horizon: int, *, axis: int = 0) -> np.ndarray:
    """The steps of sequences that follow the first `lengths`: (num_data, T, *step) -> (num_data,
    horizon, *step).

    Args:
        x: with sequences along `axis`, and time behind it.
        lengths: (num_data,) integers.
        horizon: how many steps.
        axis: of the sequences.

    Raises:
        ValueError: where there are not so many steps.

    Example:
        >>> following(np.arange(10).reshape(2, 5, 1), [1, 3], 2)[..., 0]
        array([[1, 2],
               [8, 9]])
    """
    x, horizon, lengths = np.asarray(x), check_count("horizon", horizon), np.asarray(lengths)
    axis = check_count("axis", axis, 0)
    if x.ndim < axis + 2 or lengths.shape != x.shape[axis : axis + 1]:
        refuse("lengths", f"one integer for each sequence of x {x.shape}", lengths)
    if lengths.dtype.kind not in "iu":
        refuse("lengths", "integers", lengths)
    check_room(lengths, horizon, x.shape[axis + 1])
    steps = lengths[:, None] + np.arange(horizon)
    steps = steps.reshape(*[1] * axis, *steps.shape, *[1] * (x.ndim - axis - 2))
    return np.take_along_axis(x, steps, axis + 1)


def check_room(lengths: np.ndarray, horizon: int, length: int) -> None:
    """ValueError unless `horizon` more steps fit behind all lengths.

    Example:
        >>> check_room(np.array([3, 5]), 2, 6)
        Traceback (most recent call last):
        ValueError: 2 steps do not fit behind 5 of the 6 that there are: ...
    """
    longest = int(lengths.max(initial=0))
    if longest + horizon > length:
        raise ValueError(
            f"{horizon} steps do not fit behind {longest} of the {length} that there are: pad the "
            f"sequences to {longest + horizon} steps, and build the model with that length."
        )
