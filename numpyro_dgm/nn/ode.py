"""Ordinary differential equations, dy/dt = f(t, y), solved on fixed grids or by adaptive steps, and
the divergence of a field.
"""

from collections.abc import Callable
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

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

__all__ = ["integrate", "jacobian_trace"]


def integrate(
    field: Callable[[Array, Any], Any],
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
        >>> y = integrate(lambda t, y: -y, jnp.ones(()), time_grid(0, 1, 10))
        >>> round(float(y), 4)
        0.3679
    """
    method, grid = check_solver(solver), check_times(times)
    first = _check_floats(state)

    def derivative(t: Array, state: Any) -> Any:
        found = field(t, state)
        check_derivative(_shapes(state), _shapes(found))
        return jax.tree.map(lambda k, y: k.astype(y.dtype), found, state)

    if isinstance(method, Adaptive):
        return _adaptive(derivative, state, grid, method, path)
    stages = stages_of(method, grid)

    def stage(carry: tuple[Any, Any, Any], here: tuple[Array, ...]) -> tuple[Any, Any]:
        (start, total, slope), (t, inner, outer, last) = carry, here
        slope = derivative(t, _moved(start, slope, inner))
        total = _moved(total, slope, outer)
        start = jax.tree.map(lambda new, old: jnp.where(last, new, old), total, start)
        return (start, total, slope), start if path else None

    numbers = [jnp.asarray(x, first.dtype) for x in (stages.times, *stages.factors)]
    still = jax.tree.map(jnp.zeros_like, state)
    (end, _, _), states = jax.lax.scan(
        stage, (state, state, still), (*numbers, jnp.asarray(stages.last))
    )
    if not path:
        return end
    every = stages.last.nonzero()[0]
    return jax.tree.map(lambda y, x: jnp.concatenate([y[None], x[every]]), state, states)


def jacobian_trace(
    function: Callable[[Array], Array],
    x: Array,
    *,
    event_dim: int = 1,
    probes: Array | None = None,
) -> tuple[Array, Array]:
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
        >>> jacobian_trace(lambda x: x**2, jnp.array([[1.0, 2.0]]))
        (Array([[1., 4.]], dtype=float32), Array([6.], dtype=float32))
    """
    check_probes(event_dim, tuple(x.shape), None if probes is None else tuple(probes.shape))
    value, along, directions = directional(function, x, event_dim, probes)
    dots = (along * directions).sum(tuple(range(-event_dim, 0)))
    return value, dots.sum(0) if probes is None else dots.mean(0)


def directional(
    function: Callable[[Array], Array], x: Array, event_dim: int, probes: Array | None
) -> tuple[Array, Array, Array]:
    """f(x), its derivatives along directions, and these: the probes, or the axes of an event."""
    if probes is None:
        event = x.shape[x.ndim - event_dim :]
        axes = jnp.eye(prod(event), dtype=x.dtype)
        axes = axes.reshape(prod(event), *[1] * (x.ndim - event_dim), *event)
        probes = jnp.broadcast_to(axes, (prod(event), *x.shape))
    value, along = jax.vmap(lambda e: jax.jvp(function, (x,), (e,)), out_axes=(None, 0))(probes)
    check_derivative(x.shape, value.shape)
    return value, along, probes


def rademacher(num_probes: int, like: Array, *, key: Array) -> Array:
    """Probes of random signs, (num_probes, *like.shape)."""
    return jax.random.rademacher(key, (num_probes, *like.shape), like.dtype)


def _moved(state: Any, slope: Any, step: Array) -> Any:
    return jax.tree.map(lambda y, k: y + step.astype(y.dtype) * k, state, slope)


def _shapes(state: Any) -> Any:
    return jax.tree.map(jnp.shape, state)


def _check_floats(state: Any) -> Array:
    """The first array of a state; ValueError where there is none, or one is not of floats."""
    leaves = jax.tree.leaves(state)
    good = [isinstance(x, Array) and jnp.issubdtype(x.dtype, jnp.floating) for x in leaves]
    if not leaves or not all(good):
        refuse("state", "an array of floats, or a tuple, list or dict of them", state)
    return leaves[0]


def _adaptive(field: Callable, state: Any, grid: Any, method: Adaptive, path: bool) -> Any:
    try:
        import diffrax
    except ImportError:
        raise ImportError(not_installed("diffrax")) from None
    solver = {"dopri5": diffrax.Dopri5, "dopri8": diffrax.Dopri8, "bosh3": diffrax.Bosh3}
    first = jax.tree.leaves(state)[0]
    at = jnp.asarray(grid, first.dtype)
    found = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, args: field(jnp.asarray(t, first.dtype), y)),
        solver[method.method](),
        t0=at[0],
        t1=at[-1],
        dt0=None,
        y0=state,
        saveat=diffrax.SaveAt(ts=at if path else at[-1:]),
        stepsize_controller=diffrax.PIDController(rtol=method.rtol, atol=method.atol),
        max_steps=method.max_steps,
    )
    return found.ys if path else jax.tree.map(lambda y: y[0], found.ys)
