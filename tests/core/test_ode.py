"""Grids of times, tableaus, and what they refuse."""

import numpy as np
import pytest

from dgm_core.ode import SOLVERS, Adaptive, check_solver, num_calls, stages_of, time_grid


@pytest.mark.parametrize(("t0", "t1"), [(0.0, 1.0), (1.0, 0.001), (-2.0, 3.0), (7.0, -1.0)])
def test_grids_go_both_ways_and_are_dense_near_the_smaller_time(t0: float, t1: float) -> None:
    for power in (0.5, 1.0, 2.0):
        grid = time_grid(t0, t1, 5, power=power)
        low, high = min(t0, t1), max(t0, t1)
        wanted = low + (high - low) * np.linspace(0, 1, 6) ** power
        assert grid[0] == t0
        assert grid[-1] == t1
        np.testing.assert_allclose(np.sort(grid), wanted, rtol=0, atol=1e-15)


def test_a_grid_of_many_steps_ends_where_it_should() -> None:
    for power in (1.0, 2.0, 3.0):
        assert time_grid(1e-3, 0.7, 1000, power=power)[[0, -1]].tolist() == [1e-3, 0.7]


@pytest.mark.parametrize(
    ("name", "order"), [("euler", 1), ("midpoint", 2), ("heun", 2), ("rk4", 4)]
)
def test_conditions_of_order(name: str, order: int) -> None:
    """Of quadrature, sum_i b_i c_i^k = 1 / (k + 1), and of nested stages up to the order."""
    solver = SOLVERS[name]
    b, c = np.array(solver.weights), np.array(solver.nodes)
    for power in range(order):
        assert (b * c**power).sum() == pytest.approx(1 / (power + 1))
    if order == 4:
        a = np.diag(c[1:], -1)
        assert b @ (c * (a @ c)) == pytest.approx(1 / 8)
        assert b @ a @ c**2 == pytest.approx(1 / 12)
        assert b @ a @ a @ c == pytest.approx(1 / 24)
    assert num_calls(name, 10) == len(b) * 10 == len(stages_of(solver, range(11)).times)


def test_what_is_refused() -> None:
    for arguments, message in (
        ((0, 0, 3), r"t1 must differ from t0, got 0 for both\."),
        ((0, 1, 0), r"num_steps must be an integer of at least 1, got 0\."),
        ((0, float("nan"), 3), r"t1 must be a finite number, got nan\."),
    ):
        with pytest.raises(ValueError, match=message):
            time_grid(*arguments)
    with pytest.raises(ValueError, match="power must be a positive number, got 0"):
        time_grid(0, 1, 2, power=0)
    with pytest.raises(ValueError, match=r"times must be two or more numbers that rise, or fall"):
        stages_of(SOLVERS["rk4"], [0.0, 1.0, 0.5])
    with pytest.raises(ValueError, match=r"solver must be 'euler', .* or Adaptive\(...\), got 5"):
        check_solver(5)
    with pytest.raises(ValueError, match="one on a fixed grid, whose calls are known"):
        num_calls(Adaptive(), 3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="rtol must be a positive number, got 0"):
        Adaptive(rtol=0)
    with pytest.raises(ValueError, match=r"method must be one of 'dopri5', .* got 'rk4'"):
        Adaptive(method="rk4")
