"""Inverse temperatures 0 = b_0 < b_1 < ... < b_K = 1 of the densities between start and target."""

from __future__ import annotations

from typing import Any

import numpy as np

from dgm_core.arguments import check_count, check_floats, refuse

__all__ = ["inverse_temperatures", "optimal_temperatures"]

SCHEDULES = ("linear", "sigmoid", "power", "adaptive")
_SHARPNESS = 4.0  # of the sigmoid, as Grosse et al. take it
_POWER = 4.0


def inverse_temperatures(schedule: Any, steps: int) -> np.ndarray:
    """b_0, ..., b_K of a schedule by its name, or as they are given.

    "linear": k / K.  "power": (k / K)^4, close together near the start, for starts far from the
    target such as a prior.  "sigmoid": s(4 (2 k / K - 1)) with the logistic function s, shifted
    and scaled onto [0, 1]: close together at both ends.

    Args:
        schedule: one of these words, or K + 1 increasing numbers from 0 to 1.
        steps: K.

    Raises:
        ValueError: for anything else, and for "adaptive", which is found from draws.

    References:
        Grosse, Ghahramani and Adams (2015), Sandwiching the marginal likelihood using
        bidirectional Monte Carlo, arXiv:1511.02543.

    Example:
        >>> inverse_temperatures("linear", 4)
        array([0.  , 0.25, 0.5 , 0.75, 1.  ])
        >>> inverse_temperatures("power", 2)
        array([0.    , 0.0625, 1.    ])
    """
    steps = check_count("steps", steps)
    time = np.linspace(0.0, 1.0, steps + 1)
    if isinstance(schedule, str):
        if schedule == "linear":
            return time
        if schedule == "power":
            return time**_POWER
        if schedule == "sigmoid":
            curve = np.tanh(_SHARPNESS * (time - 0.5))
            return _ends((curve - curve[0]) / (curve[-1] - curve[0]))
        refuse("schedule", f"one of {', '.join(map(repr, SCHEDULES))}, or numbers", schedule)
    betas = check_floats("schedule", schedule)
    good = betas.shape == (steps + 1,) and np.isfinite(betas).all()
    if not good or betas[0] != 0 or betas[-1] != 1 or not (np.diff(betas) > 0).all():
        refuse(
            "schedule",
            f"a word, or steps + 1 = {steps + 1} increasing numbers from 0 to 1",
            schedule,
        )
    return betas


def optimal_temperatures(betas: Any, spreads: Any, steps: int) -> np.ndarray:
    """The schedule whose steps are equally long in units of the spread of log w at each
    temperature:  the integral of s(b) from 0 to b_k is k / K of all.

    For transitions that mix and many steps it has the smallest gap of all schedules, (integral
    s)^2 / K against K sum (b_k - b_{k-1})^2 s^2.

    Args:
        betas: where the spread is known, increasing from 0 to 1.
        spreads: s there, the standard deviation of log f_1 - log f_0; what is not finite counts as
            the largest that is.
        steps: K.

    Raises:
        ValueError: for arrays of other lengths, and without a finite spread.

    References:
        Gelman and Meng (1998), Simulating normalizing constants: from importance sampling to
        bridge sampling to path sampling, Statistical Science 13; Grosse, Maddison and
        Salakhutdinov (2013), Annealing between distributions by averaging moments, NIPS.

    Example:
        >>> optimal_temperatures([0.0, 0.5, 1.0], [3.0, 1.0, 1.0], 3)
        array([0.  , 0.25, 0.5 , 1.  ])
    """
    steps = check_count("steps", steps)
    betas, spreads = check_floats("betas", betas), check_floats("spreads", spreads)
    known = np.isfinite(spreads)
    if betas.ndim != 1 or spreads.shape != betas.shape or not known.any():
        refuse("spreads", f"as many numbers as betas of shape {betas.shape}, some finite", spreads)
    spreads = np.where(known, spreads, spreads[known].max())
    if not spreads.max() > 0:  # the start is the target
        return np.linspace(0.0, 1.0, steps + 1)
    spreads = np.maximum(spreads, 1e-3 * spreads.max())  # no step is endless
    lengths = np.diff(betas) * (spreads[1:] + spreads[:-1]) / 2
    total = np.concatenate([[0.0], np.cumsum(lengths)])
    return _ends(np.interp(np.linspace(0.0, total[-1], steps + 1), total, betas))


def between(values: np.ndarray, known: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Rows of values (num_known, ...) at known temperatures, linearly in between.

    Example:
        >>> between(np.array([[0.0], [2.0]]), np.array([0.0, 1.0]), np.array([0.25]))
        array([[0.5]])
    """
    place = np.interp(wanted, known, np.arange(len(known)))
    below = np.minimum(place.astype(int), max(0, len(known) - 2))
    share = (place - below).reshape(-1, *[1] * (values.ndim - 1))
    above = np.minimum(below + 1, len(known) - 1)
    return (1 - share) * values[below] + share * values[above]


def smoothed(values: np.ndarray, width: int = 9) -> np.ndarray:
    """Running means over the first axis, shorter at its ends.

    Example:
        >>> smoothed(np.array([0.0, 3.0, 6.0, 3.0]), 3)
        array([1.5, 3. , 4. , 4.5])
    """
    half = width // 2
    sums = np.concatenate([np.zeros_like(values[:1]), np.cumsum(values, 0, np.float64)])
    first = np.maximum(np.arange(len(values)) - half, 0)
    last = np.minimum(np.arange(len(values)) + half + 1, len(values))
    counts = (last - first).reshape(-1, *[1] * (values.ndim - 1))
    return (sums[last] - sums[first]) / counts


def _ends(betas: np.ndarray) -> np.ndarray:
    """The same with ends that are exactly 0 and 1."""
    betas[0], betas[-1] = 0.0, 1.0
    return betas
