"""Shortest ways on a surface, by descent of the energy of their chords."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline

__all__ = ["Geodesics", "shortest", "spline"]

MAX_STEPS = 250

# A search has ended where its energy falls by less than its precision in so many steps.
SLOW = 10

# Of the ways that are tried beside the straight line: their chords, the steps of their search, and
# how far they bend, in units of its length.
FEW, TRIED, BEND = 8, 40, 0.5

# How much longer than its chords a way may be.
CUT = 1.05

Map = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Geodesics:
    """The shortest ways that were found between pairs of codes.

    Attributes:
        curves: the codes along each, evenly spaced in arc length, (num_pairs, num_steps + 1, d).
        lengths, straight: the lengths of these, and of the straight lines between the codes, on
            the surface, (num_pairs,).
        converged: which searches came to an end, (num_pairs,) of bool, in ways that none nearby is
            shorter than; the others are no longer than the straight line, and not the shortest.
    """

    curves: np.ndarray
    lengths: np.ndarray
    straight: np.ndarray
    converged: np.ndarray


def spline(curves: np.ndarray) -> CubicSpline:
    """A cubic spline through curves (p, n + 1, d), with times from 0 to 1.

    Example:
        >>> spline(np.array([[[0.0], [1.0], [2.0], [3.0]]]))(0.5).round(6).tolist()
        [[1.5]]
    """
    times = np.linspace(0, 1, curves.shape[1])
    return CubicSpline(times, curves, axis=1)


def shortest(
    function: Map, jacobian: Map, length: Map, first: np.ndarray, last: np.ndarray, num_steps: int
) -> Geodesics:
    """Ways from codes (p, d) to codes (p, d): the shortest of those found from the straight line
    and from ways bent to either side of it, with num_steps and twice as many chords; what is left
    of the error is extrapolated.

    Where chords cut across what the way between them goes around, a search has not ended.

    Args:
        function, jacobian: of codes (*batch, d), to points (*batch, D) and (*batch, D, d).
        length: of curves (p, n + 1, d).
        first, last: the ends, in double precision.
        num_steps: two or more.
    """

    def line(steps: int) -> np.ndarray:
        return first[:, None] + np.linspace(0, 1, steps + 1)[:, None] * (last - first)[:, None]

    def relaxed(curves: np.ndarray, most: int = MAX_STEPS) -> tuple[np.ndarray, ...]:
        return _relaxed(function, jacobian, curves, most)

    coarse, energy, done = relaxed(straight := line(num_steps))
    lengths, least = length(coarse), energy.copy()
    few = line(min(FEW, num_steps))
    _, usual, _ = relaxed(few, TRIED)
    for bend in _bends(few):
        way, less, _ = relaxed(few + bend, TRIED)
        pairs = np.flatnonzero(less < 0.999 * usual)
        if not len(pairs):
            continue
        way = spline(way[pairs])(np.linspace(0, 1, num_steps + 1))
        way, less, ended = relaxed(way, TRIED)
        least[pairs] = np.minimum(least[pairs], less)
        better = (own := length(way)) < lengths[pairs]
        chosen = pairs[better]
        coarse[chosen], lengths[chosen] = way[better], own[better]
        energy[chosen], done[chosen] = less[better], ended[better]
    fine, squared, also = relaxed(spline(coarse)(np.linspace(0, 1, 2 * num_steps + 1)))
    curves, bad = (4.0 * fine[:, ::2] - coarse) / 3.0, ~also
    lengths, direct = length(curves), length(straight)
    plain = length(fine[:, ::2])
    # Too far from its end for an extrapolation.
    rough = bad | ~done | (lengths > plain * (1 + 1e-3))
    curves[rough], lengths[rough] = fine[rough, ::2], plain[rough]
    bad |= (lengths > CUT * np.sqrt(squared)) | (least < 0.999 * energy)
    longer = lengths > direct * (1 + 1e-6)
    curves[longer], lengths[longer] = straight[longer], direct[longer]
    return Geodesics(curves, lengths, direct, ~(bad | longer))


def _bends(lines: np.ndarray) -> list[np.ndarray]:
    """What takes straight lines to either side, (p, n + 1, d) each; nothing in one dimension."""
    way = lines[:, -1] - lines[:, 0]
    if way.shape[1] < 2:
        return []
    side = np.random.default_rng(0).standard_normal(way.shape)
    squared = 1e-300 + (way**2).sum(-1, keepdims=True)
    side -= (side * way).sum(-1, keepdims=True) / squared * way
    side *= np.sqrt(squared) / np.linalg.norm(side, axis=-1, keepdims=True)
    bend = BEND * np.sin(np.pi * np.linspace(0, 1, lines.shape[1]))[:, None] * side[:, None]
    return [bend, -bend]


def _relaxed(
    function: Map, jacobian: Map, curves: np.ndarray, most: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Curves (p, n + 1, d) with the ends of those given whose chord energy is least, that energy,
    and which of them have arrived.
    """
    curves, damping = curves.copy(), np.full(len(curves), 1e-4)
    points = np.array(function(curves))
    precise = 1e-9 if points.dtype == np.float64 else 1e-4
    energy = _chords(points)
    reach = 1e-300 + np.linalg.norm(curves[:, -1] - curves[:, 0], axis=-1)
    arrived = energy <= 1e-28 * (points**2).sum((-1, -2))
    before = energy.copy()
    for index in range(1, most + 1):
        left = np.flatnonzero(~arrived)
        if not len(left):
            break
        step = _descent(points[left], jacobian(curves[left, 1:-1]), damping[left])
        trial = curves[left].copy()
        trial[:, 1:-1] += step
        there = function(trial)
        better = (new := _chords(there)) <= energy[left] * (1 + 1e-15)
        size = np.abs(step).max((-1, -2)) / reach[left]
        chosen = left[better]
        curves[chosen], points[chosen] = trial[better], there[better]
        energy[chosen] = new[better]
        damping[chosen] = np.maximum(damping[chosen] / 10.0, 1e-12)
        damping[left[~better]] *= 10.0
        arrived[left[(size < precise) | (damping[left] > 1e12)]] = True
        if index % SLOW == 0:
            arrived[chosen[energy[chosen] > (1 - precise) * before[chosen]]] = True
            before[:] = energy
    return curves, energy * (curves.shape[1] - 1), arrived


def _chords(points: np.ndarray) -> np.ndarray:
    return (np.diff(points.astype(np.float64), axis=1) ** 2).sum((-1, -2))


def _descent(points: np.ndarray, jacobian: np.ndarray, damping: np.ndarray) -> np.ndarray:
    """A damped Gauss-Newton step of all inner codes (p, n - 1, d): a block tridiagonal system, by
    elimination from the first code to the last.
    """
    points, jacobian = points.astype(np.float64), jacobian.astype(np.float64)
    transposed = np.swapaxes(jacobian, -1, -2)
    bend = 2 * points[:, 1:-1] - points[:, :-2] - points[:, 2:]
    right = -(transposed @ bend[..., None])
    own = 2 * transposed @ jacobian
    size = np.trace(own, axis1=-2, axis2=-1)[..., None, None] / own.shape[-1]
    own = own + (damping[:, None, None, None] * size + 1e-300) * np.eye(own.shape[-1])
    after = -transposed[:, :-1] @ jacobian[:, 1:]
    step, tied, count = np.empty_like(right), np.empty_like(after), own.shape[1]
    for i in range(count):
        if i:
            back = np.swapaxes(after[:, i - 1], -1, -2)
            own[:, i] -= back @ tied[:, i - 1]
            right[:, i] -= back @ step[:, i - 1]
        sides = right[:, i] if i + 1 == count else np.concatenate([after[:, i], right[:, i]], -1)
        solved = np.linalg.solve(own[:, i], sides)
        step[:, i] = solved[..., -1:]
        if i + 1 < count:
            tied[:, i] = solved[..., :-1]
    for i in range(count - 2, -1, -1):
        step[:, i] -= tied[:, i] @ step[:, i + 1]
    return step[..., 0]
