"""Continuous flows: the solution of a differential equation as a transform."""

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

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
from pyro_dgm.flows.solving import notes, on_grid, reports, signs, wants_dets, warn_of_steps
from pyro_dgm.flows.transform import Transform
from pyro_dgm.nn.contexts import batch_shape_of, flat, spread, unflat
from pyro_dgm.nn.functions import check_function
from pyro_dgm.nn.ode import directional, integrate
from pyro_dgm.nn.time_features import TimeFeatures
from pyro_dgm.nn.time_mlp import TimeMLP

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
        >>> from pyro_dgm.flows import Flow
        >>> flow = Flow(2, [ContinuousTransform(2, num_steps=4)])
        >>> flow().log_prob(torch.zeros(5, 2)).shape
        torch.Size([5])
    """

    def __init__(
        self,
        net: int | tuple[int, ...] | nn.Module,
        *,
        context_shape: ContextShape = 0,
        hidden: Sequence[int] = (64, 64, 64),
        num_steps: int = 8,
        solver: str | Adaptive = "rk4",
        num_probes: int | None = None,
    ) -> None:
        super().__init__()
        self.context_shape = check_context_shape("context_shape", context_shape)
        self.num_steps, self.solver = check_count("num_steps", num_steps), solver
        check_solver(solver)
        self.num_probes = None if num_probes is None else check_count("num_probes", num_probes, 0)
        self.made = not isinstance(net, nn.Module)
        if isinstance(net, nn.Module):
            shape = getattr(net, "in_shape", getattr(net, "image_shape", None))
            self.event_shape = None if shape is None else tuple(shape)
            self.net = check_function("velocity of a continuous flow", net)
            return
        self.event_shape = check_shape("net", net)
        self.net = TimeMLP(
            self.event_shape,
            hidden,
            time=TimeFeatures(8, highest=8.0),
            context_shape=context_size(context_shape),
        )
        with torch.no_grad():  # near zero, which is the identity
            for parameter in self.net.layers.layers[-1].parameters():
                parameter.mul_(0.01)

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

    def forward_and_log_det(
        self, u: Tensor, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """x = f(u; c) and log |det dx/du|."""
        x, log_dets = self._solve(u, context, 0.0, 1.0)
        return x, log_dets.mean(0)

    def inverse_and_log_det(
        self, x: Tensor, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """u = f^-1(x; c) and log |det du/dx|."""
        u, log_dets = self._solve(x, context, 1.0, 0.0)
        return u, log_dets.mean(0)

    def log_det_error(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """The standard error of log |det du/dx|, (*batch,), from the spread of its probes; zero for
        an exact trace, NaN for a single probe.
        """
        _, log_dets = self._solve(x, context, 1.0, 0.0)
        exact = not probes_of(self.num_probes, self._shape_of(x))
        error = log_dets.std(0) / len(log_dets) ** 0.5
        return torch.zeros_like(log_dets[0]) if exact else error

    def velocity(self, x: Tensor, t: Any, context: Tensor | None = None) -> Tensor:
        """v(t, x, c); t a number or (*batch,)."""
        if not self.context_shape or context is None:
            return self.net(x, t)
        return self.net(x, t, flat(context, self.context_shape) if self.made else context)

    def _solve(
        self, value: Tensor, context: Tensor | None, start: float, end: float
    ) -> tuple[Tensor, Tensor]:
        """The value at the end, and the log-determinant by each probe, (num_probes, *batch)."""
        shape = self._shape_of(value)
        given = context if self.context_shape else None
        batch = torch.broadcast_shapes(
            value.shape[: value.ndim - len(shape)], batch_shape_of(given, self.context_shape)
        )
        value = value.expand(*batch, *shape)
        num_probes, noted = probes_of(self.num_probes, shape), notes()
        probes = signs(num_probes, value) if num_probes else None
        grid = time_grid(start, end, self.num_steps)
        traced = wants_dets() or not on_grid(self)
        found = self._integrated(value, given, probes, grid, noted is not None, traced)
        if noted is not None:
            kinetic, jacobian = (cost * (end - start) for cost in found[2:])
            noted.append({"kinetic": kinetic, "jacobian": jacobian})
        if traced and reports(self, value) and not isinstance(self.solver, Adaptive):
            self._compare(value, given, probes, grid, found)
        return found[0], found[1]

    def _integrated(
        self,
        value: Tensor,
        context: Any,
        probes: Tensor | None,
        grid: Any,
        costs: bool = False,
        traced: bool = True,
    ) -> tuple[Tensor, ...]:
        """The solution on a grid: the value, the log-determinants (zeros where they are not wanted)
        and what the path costs.
        """
        event_dim = len(self._shape_of(value))
        batch = value.shape[: value.ndim - event_dim]
        nothing = value.new_zeros((1 if probes is None else len(probes), *batch))
        if not traced:

            def velocity(t: Tensor, x: Tensor) -> Tensor:
                return self.velocity(x, t, context)

            return integrate(velocity, value, grid, solver=self.solver), nothing

        def total(x: Tensor) -> Tensor:
            return x.flatten(x.ndim - event_dim).sum(-1)

        def field(t: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            v, along, directions = directional(
                lambda x: self.velocity(x, t, context), state[0], event_dim, probes
            )
            traces = total(along * directions)
            found = v, traces.sum(0, keepdim=True) if probes is None else traces
            if not costs:
                return found
            squares = total(along**2)
            return *found, total(v**2), squares.sum(0) if probes is None else squares.mean(0)

        state = (value, nothing, nothing[0], nothing[0]) if costs else (value, nothing)
        return integrate(field, state, grid, solver=self.solver)

    def _compare(
        self,
        value: Tensor,
        context: Any,
        probes: Tensor | None,
        grid: Any,
        found: tuple[Tensor, ...],
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
        again, log_dets = self._integrated(few, context, probes, finer)
        errors = log_dets.mean(0) - found[1].mean(0).reshape(-1)[:SOLVED_AGAIN]
        if grid[-1] == 0:  # of data: with the log-density of the noise
            errors = errors + ((ends**2 - again**2) / 2).reshape(len(few), -1).sum(1)
        warn_of_steps(self, self.num_steps, prod(shape), errors)

    def _shape_of(self, value: Tensor) -> tuple[int, ...]:
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
