"""How good forecasts are: proper scores of draws and intervals, and the forecast that repeats the
last season.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import ndtr

from dgm_core.arguments import check_count, check_number, check_seed, refuse

__all__ = ["coverage", "crps", "interval_score", "normal_crps", "seasonal_naive"]


def crps(draws: Any, x: Any) -> np.ndarray:
    """The continuous ranked probability score of draws X_1, ..., X_m for what came, x:

        mean_i |X_i - x| - sum_{i<j} |X_i - X_j| / (m (m - 1)),

    entry by entry; small is good, in the units of x. It is the fair estimator, whose mean is the
    score of the distribution that the draws come from, whatever m.

    Args:
        draws: (num_draws, *shape), two or more.
        x: (*shape), or what broadcasts with it.

    Returns:
        (*shape).

    Cost:
        sorts the draws.

    Raises:
        ValueError: for shapes that do not fit, a single draw and NaN.

    References:
        Gneiting & Raftery (2007), J. Am. Stat. Assoc. 102; Ferro (2014), Q. J. R. Meteorol. Soc.
        140, for the fair estimator.

    Example:
        >>> crps([[0.0], [1.0], [3.0]], [1.0])
        array([0.])
    """
    draws, x = _finite("draws", draws), _finite("x", x)
    if draws.ndim == 0 or len(draws) < 2:
        refuse("draws", "two draws or more, of shape (num_draws, *shape)", draws)
    _check_fit(draws.shape[1:], x)
    num = len(draws)
    ranks = (2 * np.arange(1, num + 1) - num - 1).reshape(-1, *[1] * (draws.ndim - 1))
    apart = (ranks * np.sort(draws, 0)).sum(0) / (num * (num - 1))
    return np.abs(draws - x).mean(0) - apart


def normal_crps(mean: Any, scale: Any, x: Any) -> np.ndarray:
    """The continuous ranked probability score of Normal(mean, scale) for x, in closed form:  s (u
    (2 F(u) - 1) + 2 f(u) - 1 / sqrt(pi)),  u = (x - mean) / s.

    Raises:
        ValueError: for NaN and scales that are not positive.

    Example:
        >>> round(float(normal_crps(0.0, 1.0, 0.0)), 6)
        0.233695
    """
    mean, scale, x = _finite("mean", mean), _finite("scale", scale), _finite("x", x)
    if np.any(scale <= 0):
        refuse("scale", "positive", scale)
    u = (x - mean) / scale
    density = np.exp(-(u**2) / 2) / np.sqrt(2 * np.pi)
    return scale * (u * (2 * ndtr(u) - 1) + 2 * density - 1 / np.sqrt(np.pi))


def coverage(lower: Any, upper: Any, x: Any) -> float:
    """The share of x that lies in its interval, ends included.

    Raises:
        ValueError: for NaN, shapes that do not fit and intervals that end before they begin.

    Example:
        >>> coverage([0.0, 0.0, 0.0, 0.0], 1.0, [0.5, 1.0, 1.5, 0.2])
        0.75
    """
    lower, upper, x = _interval(lower, upper, x)
    return float(((lower <= x) & (x <= upper)).mean())


def interval_score(lower: Any, upper: Any, x: Any, level: float) -> np.ndarray:
    """The score of central intervals that are to hold x with probability `level` (Winkler):

        (upper - lower) + 2 / (1 - level) ((lower - x)_+ + (x - upper)_+),

    entry by entry; small is good: narrow, and right.

    Raises:
        ValueError: as `coverage`, and for a level that is not between 0 and 1.

    References:
        Winkler (1972), J. Am. Stat. Assoc. 67; Gneiting & Raftery (2007), ibid. 102.

    Example:
        >>> interval_score(0.0, 1.0, [0.5, 1.5], 0.9).round(6)
        array([ 1., 11.])
    """
    level = check_number("level", level, above=0, below=1)
    lower, upper, x = _interval(lower, upper, x)
    outside = np.maximum(lower - x, 0) + np.maximum(x - upper, 0)
    return upper - lower + 2 / (1 - level) * outside


def seasonal_naive(
    x: Any, horizon: int, season: int, *, num_draws: int = 1000, seed: int = 0
) -> np.ndarray:
    """The forecast that repeats the last season, with the errors that it has made so far:

        x_{T+h} = x_{T+h-ks} + e_1 + ... + e_k,  k = ceil(h / s),

    each e a difference x_t - x_{t-s} of the past, less their mean. What a model has to beat.

    Args:
        x: (*batch, T, x_dim), T > season.
        horizon: how many steps.
        season: s, the steps of a season; 1 repeats the last value.
        num_draws, seed: of the errors, which are drawn for each sequence and entry by itself.

    Returns:
        draws (num_draws, *batch, horizon, x_dim).

    Raises:
        ValueError: for sequences that are not longer than a season, and NaN.

    References:
        Hyndman & Athanasopoulos (2021), Forecasting: Principles and Practice, Section 5.2.

    Example:
        >>> x = np.array([1.0, 5.0, 1.0, 5.0, 1.0])[:, None]
        >>> seasonal_naive(x, 3, 2, num_draws=2)[..., 0]
        array([[5., 1., 5.],
               [5., 1., 5.]])
    """
    x, seed = _finite("x", x), check_seed("seed", seed, 0)
    horizon, season = check_count("horizon", horizon), check_count("season", season)
    num_draws = check_count("num_draws", num_draws)
    if x.ndim < 2 or x.shape[-2] <= season:
        refuse("x", f"(*batch, T, x_dim) with T of more than a season of {season} steps", x)
    differences = x[..., season:, :] - x[..., :-season, :]
    errors = differences - differences.mean(-2, keepdims=True)
    steps = np.arange(horizon)
    repeated = x[..., x.shape[-2] - season + steps % season, :]
    rng = np.random.default_rng(seed)
    chosen = rng.integers(0, errors.shape[-2], (num_draws, *x.shape[:-2], horizon, x.shape[-1]))
    drawn = np.take_along_axis(errors[None], chosen, -2)
    for start in range(season, horizon, season):  # what the seasons before were wrong by
        drawn[..., start : start + season, :] += drawn[..., start - season : start, :][
            ..., : horizon - start, :
        ]
    return repeated + drawn


def _finite(name: str, x: Any) -> np.ndarray:
    """Numbers without NaN and infinity, in double precision."""
    x = np.asarray(x, np.float64)
    if bad := x.size - np.count_nonzero(np.isfinite(x)):
        raise ValueError(f"{name} must be finite to be scored, {bad} of {x.size} numbers are not.")
    return x


def _check_fit(shape: tuple[int, ...], x: np.ndarray) -> None:
    """ValueError unless x is as forecast."""
    if x.shape != shape:
        raise ValueError(f"x must have the shape of what was forecast, {shape}, got {x.shape}.")


def _interval(lower: Any, upper: Any, x: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    lower, upper, x = _finite("lower", lower), _finite("upper", upper), _finite("x", x)
    if np.any(lower > upper):
        refuse("lower", "at most upper", lower)
    if np.broadcast_shapes(lower.shape, upper.shape, x.shape) != x.shape or not x.size:
        _check_fit(np.broadcast_shapes(lower.shape, upper.shape), x)
    return lower, upper, x
