"""Weights that change during training: KL warm-up, cyclical annealing, learning-rate factors.

    w(s) = v_0 + sum_i (v_{i+1} - v_i) clip((s - k_i) / (k_{i+1} - k_i), 0, 1),   s = step (mod
    period),

piecewise linear through the points (k_i, v_i) and constant outside them. Only arithmetic and
`.clip` touch the step, so that one schedule serves Python numbers, numpy arrays, torch tensors and
traced JAX values, inside compiled code too.
"""

from __future__ import annotations

import itertools
import math
import numbers
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dgm_core.arguments import check_count, check_number, refuse, shown


class Schedule:
    """A weight as a function of the step, linear between the points (steps[i], values[i]) and
    constant outside.

    Args:
        steps: increasing step numbers k_0 < k_1 < ...
        values: the weight at each of them.
        period: when given, the step counts modulo the period and `steps` lie in [0, period].

    Raises:
        ValueError: when there are no points, the lengths differ, the steps do not increase or a
            number is not finite.

    A number times a schedule is a schedule. Cost: one clip per segment.

    Example:
        >>> weight = Schedule((0, 10, 20), (0.0, 1.0, 0.5))
        >>> weight(5), weight(15), weight(1000)
        (0.5, 0.75, 0.5)
        >>> weight(np.array([0, 10]))
        array([0., 1.])
        >>> 2.0 * linear(1000)
        linear(1000, end=2.0)
    """

    def __init__(
        self, steps: Sequence[float], values: Sequence[float], *, period: float | None = None
    ) -> None:
        steps, values = _points("steps", steps), tuple(map(float, _points("values", values)))
        if not steps or len(steps) != len(values):
            raise ValueError(
                f"A schedule needs one value per step and at least one, got {len(steps)} steps "
                f"and {len(values)} values."
            )
        if not all(map(math.isfinite, (*steps, *values))):
            raise ValueError(
                f"The steps and values of a schedule must be finite, got {steps} and {values}."
            )
        if any(later <= earlier for earlier, later in itertools.pairwise(steps)):
            raise ValueError(f"The steps of a schedule must increase, got {steps}.")
        if period is not None and not (period > 0 and steps[0] >= 0 and steps[-1] <= period):
            raise ValueError(
                f"The steps of a cyclical schedule must lie in [0, period], got {steps} and "
                f"{period}."
            )
        self.steps = steps
        self.values = values
        self.period = period

    def __call__(self, step: Any) -> Any:
        """The weight at `step`: a number for a number, an array or tensor of the same shape for an
        array or tensor.
        """
        if isinstance(step, numbers.Real) and not isinstance(step, np.generic):
            return float(self._evaluate(np.float64(step)))
        return self._evaluate(step)

    def _evaluate(self, step: Any) -> Any:
        if self.period is not None:
            step = step % self.period
        weight = 0.0 * step + self.values[0]
        points = zip(self.steps, self.values, strict=True)
        for (start, low), (end, high) in itertools.pairwise(points):
            weight = weight + (high - low) * ((step - start) / (end - start)).clip(0.0, 1.0)
        return weight

    def __mul__(self, factor: Any) -> Schedule:
        if not isinstance(factor, numbers.Real):
            return NotImplemented  # a loss term knows what a schedule times itself is
        return Schedule(
            self.steps, [float(factor) * value for value in self.values], period=self.period
        )

    __rmul__ = __mul__

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Schedule):
            return NotImplemented
        return (self.steps, self.values, self.period) == (other.steps, other.values, other.period)

    def __hash__(self) -> int:
        return hash((self.steps, self.values, self.period))

    def __repr__(self) -> str:
        if len(self.steps) == 1:
            return f"constant({self.values[0]})"
        if len(self.steps) == 2 and self.steps[0] == 0:
            start, end = self.values
            ends = ("" if start == 0.0 else f", start={start}") + (
                "" if end == 1.0 else f", end={end}"
            )
            if self.period is None:
                return f"linear({self.steps[1]}{ends})"
            ratio = self.steps[1] / self.period
            return f"cyclical({self.period}{'' if ratio == 0.5 else f', ratio={ratio:g}'}{ends})"
        period = "" if self.period is None else f", period={self.period}"
        return f"Schedule({self.steps}, {self.values}{period})"


def _points(name: str, points: Any) -> tuple[float, ...]:
    found = tuple(points) if isinstance(points, (Sequence, np.ndarray)) else None
    if found is None or not all(isinstance(p, numbers.Real) for p in found):
        refuse(name, "a sequence of numbers", points)
    return found


def constant(value: float) -> Schedule:
    """The same weight at every step.

    Example:
        >>> constant(0.1)(12345)
        0.1
    """
    return Schedule((0,), (check_number("value", value),))


def linear(num_steps: float, start: float = 0.0, end: float = 1.0) -> Schedule:
    """From `start` at step 0 to `end` at step `num_steps`, then constant: KL warm-up.

    References:
        Bowman et al. (2016), arXiv:1511.06349; Sonderby et al. (2016), arXiv:1602.02282.

    Example:
        >>> linear(1000)(250)
        0.25
    """
    check_number("num_steps", num_steps, above=0)
    ends = check_number("start", start), check_number("end", end)
    return Schedule((0, num_steps), ends)


def cyclical(period: float, ratio: float = 0.5, start: float = 0.0, end: float = 1.0) -> Schedule:
    """Every `period` steps anew from `start` to `end`: rising for `ratio` of the period, constant
    for the rest.

    References:
        Fu et al. (2019), Cyclical annealing schedule, arXiv:1903.10145.

    Example:
        >>> [cyclical(100)(step) for step in (0, 25, 50, 99, 125)]
        [0.0, 0.5, 1.0, 1.0, 0.5]
    """
    check_number("period", period, above=0)
    check_number("ratio", ratio, above=0, most=1)
    ends = check_number("start", start), check_number("end", end)
    return Schedule((0, ratio * period), ends, period=period)


def growing(num_stages: int, hold: float, fade: float) -> Schedule:
    """The level of a network that grows: `hold` steps at 0, then for each stage `fade` steps of
    fading in and `hold` steps at its number.

    References:
        Karras et al. (2018), arXiv:1710.10196, appendix A.1.

    Example:
        >>> [growing(2, 100, 50)(step) for step in (100, 125, 150, 250, 1000)]
        [0.0, 0.5, 1.0, 1.0, 2.0]
    """
    check_count("num_stages", num_stages)
    check_number("hold", hold, above=0), check_number("fade", fade, above=0)
    starts = [stage * (hold + fade) + hold for stage in range(num_stages)]
    steps = [step for start in starts for step in (start, start + fade)]
    return Schedule(steps, [stage for k in range(num_stages) for stage in (k, k + 1)])


def value_of(weight: float | Callable[[Any], Any] | Any, step: Any) -> Any:
    """`weight(step)` for a schedule or any other function of the step, `weight` itself for a number
    or an array.

    Raises:
        ValueError: for a function that does not give one number for one step.

    Example:
        >>> value_of(0.5, 10), value_of(linear(20), 10)
        (0.5, 0.5)
        >>> value_of(lambda step: None, 10)
        Traceback (most recent call last):
        ValueError: A schedule must give one number at each step, got None.
    """
    if not callable(weight):
        return weight
    value = weight(step)
    one = isinstance(value, numbers.Real) or getattr(value, "shape", None) == ()
    if not one and getattr(step, "shape", ()) == ():
        raise ValueError(f"A schedule must give one number at each step, got {shown(value)}.")
    return value


def weight_of(weight: float | Callable[[Any], Any] | Any, step: Any) -> Any:
    """`value_of` for a weight that must not be negative: NaN where an array is, in compiled code
    too, so that the step is refused.

    Raises:
        ValueError: for negative numbers, and as `value_of`.

    Example:
        >>> weight_of(linear(20), 10)
        0.5
        >>> weight_of(lambda step: 1 - step, 3)
        Traceback (most recent call last):
        ValueError: A weight must be a number of at least 0 at each step, got -2 at step 3.
    """
    value = value_of(weight, step)
    if not callable(weight) or isinstance(weight, Schedule):  # which were checked when made
        return value
    if isinstance(value, numbers.Real):
        if value < 0:
            raise ValueError(
                f"A weight must be a number of at least 0 at each step, got {value} at step {step}."
            )
        return value
    good = value >= 0
    return value * good / good


def product(a: float | Callable[[Any], Any], b: float | Callable[[Any], Any]) -> Any:
    """The product of two weights, each a number or a callable of the step.

    Example:
        >>> product(2.0, 3.0), product(2.0, lambda step: step)(5)
        (6.0, 10.0)
    """
    if isinstance(a, numbers.Real) and isinstance(b, numbers.Real):
        return float(a) * float(b)
    for one, other in ((a, b), (b, a)):
        if isinstance(one, numbers.Real) and (one == 1 or isinstance(other, Schedule)):
            return other if one == 1 else one * other
    return _Product(a, b)


@dataclass(frozen=True)
class _Product:
    """A product of which one factor is any function of the step."""

    a: float | Callable[[Any], Any]
    b: float | Callable[[Any], Any]

    def __call__(self, step: Any) -> Any:
        return value_of(self.a, step) * value_of(self.b, step)

    def __repr__(self) -> str:
        return f"{self.a!r} * {self.b!r}"
