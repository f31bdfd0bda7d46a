"""Ordinary differential equations, dy/dt = f(t, y), solved on fixed grids or by adaptive steps, and
the divergence of a field.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.func import jvp, vjp, vmap

from dgm_core.arguments import refuse
from dgm_core.ode import (
    Adaptive,
    check_derivative,
    check_probes,
    check_solver,
    check_times,
    not_installed,
    stages_of,
)
from pyro_dgm.compat import tree_flatten, tree_map, tree_unflatten
from pyro_dgm.nn.attention import all_derivatives

__all__ = ["integrate", "jacobian_trace"]


def integrate(
    field: Callable[[Tensor, Any], Any],
    state: Any,
    times: Any,
    *,
    solver: str | Adaptive = "rk4",
    path: bool = False,
) -> Any:
    """The solution of  dy/dt = f(t, y),  y(times[0]) = state,  at times[-1].

    On a fixed grid the steps end at `times`, and gradients are those of the steps, exactly.  What
    shall be integrated along the way, a log-density say, is one more part of the state.

    Args:
        field: called with t, a number in the precision of the state, and a state; returns the
            derivative, of the same form.
        state: an array, or a tuple, list or dict of arrays, of floats.
        times: that rise or fall, as `dgm_core.ode.time_grid(0, 1, 20)` makes them.
        solver: "euler", "midpoint", "heun", "rk4", or `dgm_core.ode.Adaptive(...)`.
        path: whether the states at all times are returned, the times leading.

    Shapes:
        those of the state; with `path` (len(times), ...).

    Cost:
        1, 2, 2 or 4 calls of the field a step (`dgm_core.ode.num_calls`), one after the other; in
        JAX the field is traced once.

    Raises:
        ValueError: for an unknown solver, times that do not all rise or all fall, and a field that
            returns another form or other shapes.
        ImportError: for an adaptive solver whose library is not installed.

    References:
        Hairer, Norsett & Wanner (1993), Solving Ordinary Differential Equations I, chapter II.

    Example:
        >>> from dgm_core.ode import time_grid
        >>> y = integrate(lambda t, y: -y, torch.ones(()), time_grid(0, 1, 10))
        >>> round(float(y), 4)
        0.3679
    """
    method, grid = check_solver(solver), check_times(times)
    first = _check_floats(state)

    def derivative(t: Tensor, state: Any) -> Any:
        found = field(t, state)
        check_derivative(_shapes(state), _shapes(found))
        return found

    if isinstance(method, Adaptive):
        return _adaptive(derivative, state, grid, method, path)
    stages = stages_of(method, grid)
    start, total, slope, states = state, state, None, [state]
    for t, inner, outer, last in zip(
        torch.as_tensor(stages.times, dtype=first.dtype, device=first.device),
        *map(list, stages.factors),
        stages.last,
    ):
        slope = derivative(t, start if slope is None or not inner else _moved(start, slope, inner))
        total = _moved(total, slope, outer) if outer else total
        if last:
            start = total
            states.append(start)
    return tree_map(lambda *x: torch.stack(x), *states) if path else start


def jacobian_trace(
    function: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    event_dim: int = 1,
    probes: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """f(x) and its divergence  tr df/dx,  exactly or by Hutchinson's estimate, the mean of
    e' (df/dx) e over some probes e.

    Probes of random signs have a smaller variance than normal ones: entries on the diagonal do not
    count, and what is antisymmetric neither.

    Args:
        function: of each value of the batch by itself.
        x: where.
        event_dim: how many of its last dimensions are one value.
        probes: None for the exact trace.

    Shapes:
        x (*batch, *event), probes (num_probes, *batch, *event) -> (*batch, *event) and (*batch,).

    Cost:
        a forward derivative along D directions, the entries of a value, or one for each probe, all
        at once.

    Raises:
        ValueError: for an event_dim below 1 or beyond x, and probes of another shape.

    References:
        Hutchinson (1989), Communications in Statistics 18; Grathwohl et al. (2019),
        arXiv:1810.01367.

    Example:
        >>> jacobian_trace(lambda x: x**2, torch.tensor([[1.0, 2.0]]))
        (tensor([[1., 4.]]), tensor([6.]))
    """
    check_probes(event_dim, tuple(x.shape), None if probes is None else tuple(probes.shape))
    value, along, directions = directional(function, x, event_dim, probes)
    dots = (along * directions).flatten(1 + x.ndim - event_dim).sum(-1)
    return value, dots.sum(0) if probes is None else dots.mean(0)


def directional(
    function: Callable[[Tensor], Tensor], x: Tensor, event_dim: int, probes: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """f(x), its derivatives along directions, and these: the probes, or the axes of an event (of
    which the derivatives may be the rows of the Jacobian or its columns).
    """
    if whole := probes is None:
        event = x.shape[x.ndim - event_dim :]
        axes = torch.eye(event.numel(), dtype=x.dtype, device=x.device)
        axes = axes.reshape(event.numel(), *[1] * (x.ndim - event_dim), *event)
        probes = axes.expand(event.numel(), *x.shape)
    found: Any
    with all_derivatives():
        if torch.compiler.is_exporting():  # vmap cannot be
            values, along = jvp(function, (x.expand_as(probes).clone(),), (probes.clone(),))[:2]
            found = values[0], along
        elif whole:  # of all axes, backwards: rows of the Jacobian, in half the time
            pulled: Any = vjp(function, x)
            values, pull = pulled
            check_derivative(tuple(x.shape), tuple(values.shape))
            found = values, vmap(pull)(probes)[0]
        else:
            derivative: Any = partial(_derivative, function, x)
            found = vmap(derivative, out_dims=(None, 0))(probes)  # type: ignore[arg-type]
    check_derivative(tuple(x.shape), tuple(found[0].shape))
    return *found, probes


def _derivative(function: Callable, x: Tensor, direction: Tensor) -> Any:
    return jvp(function, (x,), (direction,))


def rademacher(num_probes: int, like: Tensor) -> Tensor:
    """Probes of random signs, (num_probes, *like.shape)."""
    ones = torch.ones((num_probes, *like.shape), dtype=like.dtype, device=like.device)
    return torch.where(torch.rand_like(ones) < 0.5, -ones, ones)


def _moved(state: Any, slope: Any, step: float) -> Any:
    return tree_map(lambda y, k: y + step * k, state, slope)


def _shapes(state: Any) -> Any:
    return tree_map(lambda x: tuple(x.shape) if isinstance(x, Tensor) else x, state)


def _check_floats(state: Any) -> Tensor:
    """The first array of a state; ValueError where there is none, or one is not of floats."""
    leaves = tree_flatten(state)[0]
    if not leaves or not all(isinstance(x, Tensor) and x.is_floating_point() for x in leaves):
        refuse("state", "an array of floats, or a tuple, list or dict of them", state)
    return leaves[0]


def _adaptive(field: Callable, state: Any, grid: Any, method: Adaptive, path: bool) -> Any:
    if torch.compiler.is_compiling() or torch.compiler.is_exporting():
        raise RuntimeError(
            "An adaptive solver takes as many steps as the data ask for, which a captured graph "
            "cannot: run this step uncompiled, or take a solver on a fixed grid."
        )
    try:
        from torchdiffeq import odeint
    except ImportError:
        raise ImportError(not_installed("torchdiffeq")) from None
    leaves, form = tree_flatten(state)

    def derivative(t: Tensor, parts: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(tree_flatten(field(t, tree_unflatten(list(parts), form)))[0])

    try:
        found = odeint(
            derivative,
            tuple(leaves),
            torch.as_tensor(grid if path else grid[[0, -1]]).to(leaves[0]),
            rtol=method.rtol,
            atol=method.atol,
            method=method.method,
            options={"max_num_steps": method.max_steps},
        )
    except AssertionError as error:  # of torchdiffeq
        raise RuntimeError(f"The adaptive solver has given up: {error}.") from error
    return tree_unflatten([part if path else part[-1] for part in found], form)
