"""Ordinary differential equations on fixed grids, as far as numpy goes: methods, grids of times,
and what a solution costs.

Fixed grids compile, differentiate and cost the same for every datum; a method of two stages on half
the steps makes as many calls of the network as one of a single stage.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from dgm_core.arguments import check_choice, check_count, check_number, check_numbers, refuse

__all__ = ["Adaptive", "num_calls", "time_grid"]


@dataclass(frozen=True)
class Solver:
    """An explicit Runge-Kutta method each of whose stages needs the one before alone:
    k_i = f(t + c_i h, y + c_i h k_{i-1}),  y + h sum_i b_i k_i.

    nodes: c;  weights: b.
    """

    name: str
    nodes: tuple[float, ...]
    weights: tuple[float, ...]


SOLVERS = {
    solver.name: solver
    for solver in (
        Solver("euler", (0.0,), (1.0,)),
        Solver("midpoint", (0.0, 1 / 2), (0.0, 1.0)),
        Solver("heun", (0.0, 1.0), (1 / 2, 1 / 2)),
        Solver("rk4", (0.0, 1 / 2, 1 / 2, 1.0), (1 / 6, 1 / 3, 1 / 3, 1 / 6)),
    )
}
METHODS = ("dopri5", "dopri8", "bosh3")  # those that both libraries have


@dataclass(frozen=True)
class Adaptive:
    """Steps as long as an error estimate allows, by the solvers of torchdiffeq in Pyro and of
    diffrax in NumPyro, which must be installed (the extras of these names).

    Wherever a solver is named. Gradients pass through the steps that were taken. The number of
    network calls depends on the data, so that Pyro's steps are not compiled.

    Args:
        rtol, atol: the relative and absolute error of a step that is accepted.
        method: "dopri5", "dopri8" or "bosh3".
        max_steps: after which the solution is given up, with an exception.

    Raises:
        ValueError: for a tolerance that is not positive or an unknown method.

    Example:
        >>> Adaptive(1e-3)
        Adaptive(rtol=0.001, atol=1e-06, method='dopri5', max_steps=4096)
    """

    rtol: float = 1e-5
    atol: float = 1e-6
    method: str = "dopri5"
    max_steps: int = 4096

    def __post_init__(self) -> None:
        check_number("rtol", self.rtol, above=0)
        check_number("atol", self.atol, above=0)
        check_choice("method", self.method, METHODS)
        check_count("max_steps", self.max_steps)


def check_solver(solver: Any) -> Solver | Adaptive:
    """The method that a name stands for; adaptive ones as they are.

    Example:
        >>> check_solver("rk5")
        Traceback (most recent call last):
        ValueError: solver must be 'euler', 'midpoint', 'heun', 'rk4' or Adaptive(...), got 'rk5'.
    """
    if isinstance(solver, Adaptive):
        return solver
    if not isinstance(solver, str) or solver not in SOLVERS:
        *names, last = map(repr, SOLVERS)
        refuse("solver", f"{', '.join(names)}, {last} or Adaptive(...)", solver)
    return SOLVERS[solver]


def time_grid(t0: float, t1: float, num_steps: int, *, power: float = 1.0) -> np.ndarray:
    """The times of `num_steps` steps from t0 to t1, in either direction:  t = a + (b - a) u^power,
    a the smaller and b the larger of the two, u uniform.

    Args:
        t0, t1: the first and the last time.
        num_steps: .
        power: 1 is uniform; 2 is denser near the smaller time, where probability flows are curved.

    Shapes:
        (num_steps + 1,), in double precision.

    Raises:
        ValueError: for times that are equal or not finite, num_steps < 1 or power <= 0.

    Example:
        >>> time_grid(0, 1, 4, power=2), time_grid(1, 0, 2)
        (array([0.    , 0.0625, 0.25  , 0.5625, 1.    ]), array([1. , 0.5, 0. ]))
    """
    t0, t1 = check_number("t0", t0), check_number("t1", t1)
    if t0 == t1:
        raise ValueError(f"t1 must differ from t0, got {t0:g} for both.")
    low, high = min(t0, t1), max(t0, t1)
    u = np.linspace(0.0, 1.0, 1 + check_count("num_steps", num_steps))
    grid = low + (high - low) * u ** check_number("power", power, above=0)
    grid[-1] = high  # to the last bit
    return check_times(grid if t0 < t1 else grid[::-1].copy())


def check_times(times: Any) -> np.ndarray:
    """Times that all lie in one direction, in double precision.

    Example:
        >>> check_times([0, 1, 1])
        Traceback (most recent call last):
        ValueError: times must be two or more numbers that rise, or fall, got (0.0, 1.0, 1.0).
    """
    found = np.array(check_numbers("times", times if np.ndim(times) else (times,)))
    steps = np.diff(found)
    if len(found) < 2 or not ((steps > 0).all() or (steps < 0).all()):
        shown = tuple(found.tolist()) if len(found) < 6 else found
        refuse("times", "two or more numbers that rise, or fall", shown)
    return found


def num_calls(solver: str, num_steps: int) -> int:
    """How often the field is called in a solution.

    Example:
        >>> num_calls("rk4", 10), num_calls("heun", 20)
        (40, 40)
    """
    found = check_solver(solver)
    if isinstance(found, Adaptive):
        refuse("solver", "one on a fixed grid, whose calls are known", solver)
    return len(found.nodes) * check_count("num_steps", num_steps)


@dataclass(frozen=True)
class Stages:
    """All stages of all steps of a solution, one after the other, (num_steps * stages,) each.

    times: at which the field is called;  factors: what the derivative before is multiplied by, and
    what this one is;  last: whether a step ends here.
    """

    times: np.ndarray
    factors: tuple[np.ndarray, np.ndarray]
    last: np.ndarray


def stages_of(solver: Solver, times: Any) -> Stages:
    """The stages of a method on a grid.

    Example:
        >>> stages_of(SOLVERS["heun"], (0.0, 0.5)).times
        array([0. , 0.5])
    """
    grid = check_times(times)
    steps, nodes = np.diff(grid)[:, None], np.array(solver.nodes)
    last = np.arange(len(nodes)) == len(nodes) - 1
    return Stages(
        (grid[:-1, None] + steps * nodes).ravel(),
        ((steps * nodes).ravel(), (steps * np.array(solver.weights)).ravel()),
        np.tile(last, len(grid) - 1),
    )


def check_derivative(wanted: Any, found: Any) -> None:
    """Raises ValueError unless a field has returned arrays of the form and shapes of the state.

    They come as trees of shapes.
    """
    if wanted != found:
        raise ValueError(
            f"The field must return the derivative of the state, in its form with the shapes "
            f"{wanted}, got {found}."
        )


def check_probes(event_dim: Any, shape: tuple[int, ...], probes: tuple[int, ...] | None) -> None:
    """Raise a ValueError unless values of a shape have so many dimensions, and probes their shape.

    Example:
        >>> check_probes(1, (5, 2), (3, 2))
        Traceback (most recent call last):
        ValueError: probes must have the shape (num_probes, 5, 2), got (3, 2).
    """
    check_count("event_dim", event_dim, 1, len(shape))
    if probes is not None and tuple(probes[1:]) != tuple(shape):
        wanted = ", ".join(map(str, shape))
        raise ValueError(f"probes must have the shape (num_probes, {wanted}), got {tuple(probes)}.")


def check_moments(owner: Any, found: tuple[int, ...], batch: tuple[int, ...]) -> None:
    """Raise a ValueError for times that would make more cases of a batch of values.

    Example:
        >>> check_moments("TimeMLP(2)", (5, 1), (5,))
        Traceback (most recent call last):
        ValueError: TimeMLP(2) expects a time, or one for each value, of shape () or (5,), got \
(5, 1).
    """
    wide = len(found) > len(batch) or any(
        a not in (1, b) and b != 1 for a, b in zip(found[::-1], batch[::-1])
    )
    if batch and wide:
        raise ValueError(
            f"{owner} expects a time, or one for each value, of shape () or {tuple(batch)}, got "
            f"{tuple(found)}."
        )


EXACT_UP_TO = 64  # entries of a value whose trace is computed along every one of them


def probes_of(num_probes: int | None, shape: tuple[int, ...] | None) -> int:
    """By how many probes the trace for values of a shape (None: unknown) is estimated; 0: exactly.

    Example:
        >>> probes_of(None, (64,)), probes_of(None, (65,)), probes_of(3, (2,)), probes_of(0, (99,))
        (0, 1, 3, 0)
    """
    if num_probes is not None:
        return num_probes
    return int(shape is None or prod(shape) > EXACT_UP_TO)


def solution_cost(solver: str | Adaptive, num_steps: int) -> str:
    """What a solution costs, in words.

    Example:
        >>> solution_cost("rk4", 10)
        '40 passes'
    """
    if isinstance(solver, Adaptive):
        return "adaptive steps"
    return f"{num_calls(solver, num_steps)} passes"


SOLVED_AGAIN = 16  # values of a batch that are solved again, to see what the steps leave out


def warn_coarse(owner: str, num_steps: int, entries: int, errors: Any) -> None:
    """Warns where log-densities (N,) change by more than 0.05 nats on average, or 0.001 for each
    entry, when they are solved with twice the steps.

    Example:
        >>> warn_coarse("ContinuousTransform(2)", 8, 2, np.array([0.01, -0.02]))
    """
    error = float(np.abs(np.asarray(errors, float)).mean())
    if error <= max(0.05, 0.001 * entries):
        return
    warnings.warn(
        f"{owner} is solved with too few steps: with {2 * num_steps} in place of {num_steps} "
        f"log-densities change by {error:.1g} nats on average. Score with more steps of "
        "solver='rk4', as in ContinuousTransform(net, num_steps=...) with the network of this one, "
        "until they no longer change. A flow that was trained through so few is worth only what "
        "it then has: train with more, a smaller rate, and KineticEnergy and JacobianNorm.",
        UserWarning,
        stacklevel=2,
    )


def not_installed(library: str) -> str:
    """What to say where an adaptive solver needs a library that is not there."""
    return (
        f"Adaptive(...) needs {library}, which is not installed: pip install 'ppl-dgm[{library}]', "
        "or take a solver on a fixed grid, such as solver='rk4'."
    )
