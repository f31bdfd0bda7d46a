"""Continuous flows: the solution of a differential equation as a transform."""

from collections.abc import Sequence
from math import prod
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

from dgm_core.arguments import check_count, check_shape, refuse
from dgm_core.contexts import ContextShape, check_context_shape, context_size, shown_shape
from dgm_core.ode import (
    SOLVED_AGAIN,
    Adaptive,
    check_solver,
    probes_of,
    solution_cost,
    time_grid,
)
from numpyro_dgm.conditionals.base import required_key
from numpyro_dgm.flows.solving import notes, reports, signs, warn_of_steps
from numpyro_dgm.flows.transform import Transform
from numpyro_dgm.nn.contexts import batch_shape_of, flat, spread, unflat
from numpyro_dgm.nn.functions import check_function
from numpyro_dgm.nn.ode import directional, integrate
from numpyro_dgm.nn.time_features import TimeFeatures
from numpyro_dgm.nn.time_mlp import TimeMLP

__all__ = ["ContinuousTransform"]


class ContinuousTransform(Transform):
    """x = x(1) of  dx/dt = v(t, x, c),  x(0) = u;  log |det dx/du| = int_0^1 tr(dv/dx) dt.

    Any network is a velocity v: the map is a bijection whatever its weights. Beyond 64 entries the
    trace is estimated: log p is then *stochastic*, without bias, with the noise of a distribution
    fixed when the flow is called, so that a draw and its score agree. In NumPyro it comes from the
    key of the program; outside of one it is always the same.

    On a fixed grid the two directions undo each other up to the error of the solver, which training
    by likelihood can learn to exploit. In evaluation the first 16 values of a batch are solved with
    twice the steps too, with a warning where that changes their log-densities by over 0.05 nats.
    Draws whose density nobody asks for are solved without traces and without that comparison: in
    Pyro those without gradients, in NumPyro those of compiled programs.

    Args:
        net: the size or shape of a value, of which a network is made, or a network of one's own:
            called as net(x, t), with a context net(x, t, context), such as a `UNet` with a time.
        context_shape: of the context (0 = none); own networks see it with labels one-hot.
        hidden: of the network that is made.
        num_steps: of the grid from 0 to 1.
        solver: "euler", "midpoint", "heun", "rk4", or `dgm_core.ode.Adaptive(...)`.
        num_probes: of random signs, by which the trace is estimated; 0: exactly; None: exactly up
            to 64 entries, with one probe beyond.

    Attributes:
        event_shape: of a value; None where an own network does not say its `in_shape` or
            `image_shape`: then values are vectors of any size.

    Shapes:
        u and x (*batch, *event), context (*batch, *context_shape); log-determinants (*batch,).

    Cost:
        1, 2, 2 or 4 calls of the network a step, each with a derivative along every entry, or along
        every probe.

    Raises:
        ValueError: for sizes or numbers below 1, an unknown solver, values of another shape.

    References:
        Chen et al. (2018), arXiv:1806.07366; Grathwohl et al. (2019), arXiv:1810.01367.

    Example:
        >>> from numpyro_dgm.flows import Flow
        >>> flow = Flow(2, [ContinuousTransform(2, num_steps=4, key=jax.random.key(0))])
        >>> flow().log_prob(jnp.zeros((5, 2))).shape
        (5,)
    """

    net: Any
    context_shape: tuple[Any, ...] = eqx.field(static=True)
    event_shape: tuple[int, ...] | None = eqx.field(static=True)
    num_steps: int = eqx.field(static=True)
    solver: str | Adaptive = eqx.field(static=True)
    num_probes: int | None = eqx.field(static=True)
    made: bool = eqx.field(static=True)

    def __init__(
        self,
        net: int | tuple[int, ...] | eqx.Module,
        *,
        context_shape: ContextShape = 0,
        hidden: Sequence[int] = (64, 64, 64),
        num_steps: int = 8,
        solver: str | Adaptive = "rk4",
        num_probes: int | None = None,
        key: Array | None = None,
    ) -> None:
        self.context_shape = check_context_shape("context_shape", context_shape)
        self.num_steps, self.solver = check_count("num_steps", num_steps), solver
        check_solver(solver)
        self.num_probes = None if num_probes is None else check_count("num_probes", num_probes, 0)
        self.made = not isinstance(net, eqx.Module)
        if isinstance(net, eqx.Module):
            shape = getattr(net, "in_shape", getattr(net, "image_shape", None))
            self.event_shape = None if shape is None else tuple(shape)
            self.net = check_function("velocity of a continuous flow", net)
            return
        self.event_shape = check_shape("net", net)
        made = TimeMLP(
            self.event_shape,
            hidden,
            time=TimeFeatures(8, highest=8.0),
            context_shape=context_size(context_shape),
            key=required_key(key, "ContinuousTransform"),
        )
        last = made.layers.layers[-1]  # near zero, which is the identity
        small = jax.tree.map(lambda w: 0.01 * w, last)
        self.net = eqx.tree_at(lambda net: net.layers.layers[-1], made, small)

    @property
    def forward_cost(self) -> str:
        """What `forward_and_log_det` costs."""
        return solution_cost(self.solver, self.num_steps)

    @property
    def inverse_cost(self) -> str:
        """What `inverse_and_log_det` costs."""
        return solution_cost(self.solver, self.num_steps)

    @property
    def draws_noise(self) -> bool:
        """Whether the log-determinant may be an estimate."""
        return probes_of(self.num_probes, self.event_shape) != 0

    def forward_and_log_det(self, u: Array, context: Array | None = None) -> tuple[Array, Array]:
        """x = f(u; c) and log |det dx/du|."""
        x, log_dets = self._solve(u, context, 0.0, 1.0)
        return x, log_dets.mean(0)

    def inverse_and_log_det(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        """u = f^-1(x; c) and log |det du/dx|."""
        u, log_dets = self._solve(x, context, 1.0, 0.0)
        return u, log_dets.mean(0)

    def log_det_error(self, x: Array, context: Array | None = None) -> Array:
        """The standard error of log |det du/dx|, (*batch,), from the spread of its probes; zero for
        an exact trace, NaN for a single probe.
        """
        _, log_dets = self._solve(x, context, 1.0, 0.0)
        exact = not probes_of(self.num_probes, self._shape_of(x))
        error = log_dets.std(0, ddof=1) / len(log_dets) ** 0.5
        return jnp.zeros_like(log_dets[0]) if exact else error

    def velocity(self, x: Array, t: Any, context: Array | None = None) -> Array:
        """v(t, x, c); t a number or (*batch,)."""
        if not self.context_shape or context is None:
            return self.net(x, t)
        return self.net(x, t, flat(context, self.context_shape) if self.made else context)

    def _solve(
        self, value: Array, context: Array | None, start: float, end: float
    ) -> tuple[Array, Array]:
        """The value at the end, and the log-determinant by each probe, (num_probes, *batch)."""
        shape = self._shape_of(value)
        given = context if self.context_shape else None
        batch = jnp.broadcast_shapes(
            value.shape[: value.ndim - len(shape)], batch_shape_of(given, self.context_shape)
        )
        value = jnp.broadcast_to(value, (*batch, *shape))
        num_probes, noted = probes_of(self.num_probes, shape), notes()
        probes = signs(num_probes, value) if num_probes else None
        grid = time_grid(start, end, self.num_steps)
        found = self._integrated(value, given, probes, grid, noted is not None)
        if noted is not None:
            kinetic, jacobian = (cost * (end - start) for cost in found[2:])
            noted.append({"kinetic": kinetic, "jacobian": jacobian})
        if reports(self, value) and not isinstance(self.solver, Adaptive):
            self._compare(value, given, probes, grid, found)
        return found[0], found[1]

    def _integrated(
        self, value: Array, context: Any, probes: Array | None, grid: Any, costs: bool
    ) -> tuple[Array, ...]:
        """The solution on a grid: the value, the log-determinants and what the path costs."""
        event_dim = len(self._shape_of(value))

        def total(x: Array) -> Array:
            return x.sum(tuple(range(-event_dim, 0)))

        def field(t: Array, state: tuple[Array, ...]) -> tuple[Array, ...]:
            v, along, directions = directional(
                lambda x: self.velocity(x, t, context), state[0], event_dim, probes
            )
            traces = total(along * directions)
            found = v, traces.sum(0, keepdims=True) if probes is None else traces
            if not costs:
                return found
            squares = total(along**2)
            return *found, total(v**2), squares.sum(0) if probes is None else squares.mean(0)

        batch = value.shape[: value.ndim - event_dim]
        nothing = jnp.zeros((1 if probes is None else len(probes), *batch), value.dtype)
        state = (value, nothing, nothing[0], nothing[0]) if costs else (value, nothing)
        return integrate(field, state, grid, solver=self.solver)

    def _compare(
        self,
        value: Array,
        context: Any,
        probes: Array | None,
        grid: Any,
        found: tuple[Array, ...],
    ) -> None:
        """Warn where twice the steps give a few of the values other log-densities."""
        shape = self._shape_of(value)
        batch = value.shape[: value.ndim - len(shape)]
        few, ends = (x.reshape(-1, *shape)[:SOLVED_AGAIN] for x in (value, found[0]))
        if context is not None:
            rows = flat(spread(context, self.context_shape, batch), self.context_shape)
            context = unflat(rows[:SOLVED_AGAIN], self.context_shape)
        if probes is not None:
            probes = probes.reshape(len(probes), -1, *shape)[:, :SOLVED_AGAIN]
        finer = time_grid(grid[0], grid[-1], 2 * self.num_steps)
        again, log_dets = self._integrated(few, context, probes, finer, False)
        errors = log_dets.mean(0) - found[1].mean(0).reshape(-1)[:SOLVED_AGAIN]
        if grid[-1] == 0:  # of data: with the log-density of the noise
            errors = errors + ((ends**2 - again**2) / 2).reshape(len(few), -1).sum(1)
        warn_of_steps(self, self.num_steps, prod(shape), errors)

    def _shape_of(self, value: Array) -> tuple[int, ...]:
        """The shape of a value; ValueError for another one."""
        shape = tuple(value.shape[-1:]) if self.event_shape is None else self.event_shape
        if tuple(value.shape[max(0, value.ndim - len(shape)) :]) != shape or not shape:
            refuse("value", f"an array (*batch, {', '.join(map(str, shape))})", value)
        return shape

    def __repr__(self) -> str:
        net = self.net if self.event_shape is None else shown_shape(self.event_shape)
        return (
            f"ContinuousTransform({net}, num_steps={self.num_steps}, solver={self.solver!r}, "
            f"num_probes={self.num_probes})"
        )
