"""Hamiltonian kernels: leapfrog steps, HMC, and MALA, which is HMC of one step.

H(x, p) = -log pi(x) + p^T M^-1 p / 2 with a momentum p ~ Normal(0, M). A leapfrog step keeps volume
and is its own inverse after p -> -p, so that accepting with probability min(1, exp(H - H')) leaves
pi as it is, exactly, whatever the step size.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dgm_core.arguments import check_count, shown
from dgm_core.kernels import check_scale
from dgm_core.terms import written
from pyro_dgm.mcmc.base import Info, LogDensity, Noise, State, spread, start, summed

__all__ = ["HMC", "MALA", "bounded", "leapfrog"]


def leapfrog(
    force: Callable[[Tensor], Tensor],
    position: Tensor,
    momentum: Tensor,
    step_size: Any,
    num_steps: int = 1,
    *,
    inverse_mass: Any = 1.0,
) -> tuple[Tensor, Tensor]:
    """So many steps of  p += e f(x) / 2;  x += e M^-1 p;  p += e f(x) / 2.

    Volume is kept for *any* function f of the position (each line is a shear), and the steps are
    undone by p -> -p; the energy is kept up to O(e^2) where f is the gradient of log pi.

    Args:
        force: f, of positions.
        position, momentum: of equal shape.
        step_size: e, a number or an array that broadcasts to the position.
        num_steps: how many.
        inverse_mass: the diagonal of M^-1, likewise.

    Cost:
        num_steps + 1 forces.

    References:
        Neal (2011), MCMC using Hamiltonian dynamics, arXiv:1206.1901.

    Example:
        >>> x, p = leapfrog(lambda x: -x, torch.ones(1), torch.zeros(1), 0.1, 63)
        >>> bool((x - 1).abs() < 1e-3)  # once around: 63 steps of 0.1 are 2 pi
        True
    """
    num_steps = check_count("num_steps", num_steps)
    nothing = torch.zeros(())

    def at(x: Tensor) -> State:
        return State(x, nothing, force(x))

    end, momentum = trajectory(at, at(position), momentum, step_size, num_steps, inverse_mass)
    return end.position, momentum


def trajectory(
    at: Callable[[Tensor], State],
    state: State,
    momentum: Tensor,
    step_size: Any,
    num_steps: int,
    inverse_mass: Any,
) -> tuple[State, Tensor]:
    """The same from a state to a state; `at` evaluates a position."""
    momentum = momentum + 0.5 * step_size * state.gradient
    for _ in range(num_steps):
        state = at(state.position + step_size * inverse_mass * momentum)
        momentum = momentum + step_size * state.gradient
    return state, momentum - 0.5 * step_size * state.gradient


def bounded(force: Tensor, largest: Any) -> Tensor:
    """A force whose length stays below a bound, smoothly: g / sqrt(1 + |g|^2 / largest^2) over the
    last dimension.

    Leapfrog steps with it keep volume as ever, and do not explode; the energy is then no longer
    kept to second order.

    Example:
        >>> bounded(torch.tensor([300.0, 400.0]), 20.0).norm() < 20
        tensor(True)
    """
    return force / (1 + (force**2).sum(-1, keepdim=True) / largest**2).sqrt()


class HMC:
    """Hamiltonian Monte Carlo: a fresh momentum, leapfrog steps, and an exact correction.

    Args:
        step_size: e > 0, a number or an array that broadcasts to the position (one per chain, one
            per coordinate).
        num_steps: leapfrog steps of a transition.
        inverse_mass: the diagonal of M^-1, likewise; best the variances of the target.

    Cost:
        num_steps values and gradients of the log-density.

    Raises:
        ValueError: for bad arguments.

    Gradients flow through positions that were accepted, and not through the decision.

    References:
        Duane et al. (1987), Hybrid Monte Carlo; Neal (2011), arXiv:1206.1901.

    Example:
        >>> def log_density(x):
        ...     return -(x**2).sum(-1) / 2
        >>> kernel, state = HMC(0.3, 5), start(log_density, torch.zeros(4, 2))
        >>> state, info = kernel(log_density, state, kernel.noise(state))
        >>> info.acceptance.shape
        torch.Size([4])
    """

    def __init__(self, step_size: Any, num_steps: int, *, inverse_mass: Any = 1.0) -> None:
        self.step_size = check_scale("step_size", step_size)
        self.num_steps = check_count("num_steps", num_steps)
        self.inverse_mass = check_scale("inverse_mass", inverse_mass)

    def noise(self, state: State) -> Noise:
        """Standard normal numbers for the momentum, uniform ones for the decision."""
        return Noise(torch.randn_like(state.position), torch.rand_like(state.log_density))

    def __call__(self, log_density: LogDensity, state: State, noise: Noise) -> tuple[State, Info]:
        """One transition of all chains; a proposal whose energy is not a number is refused."""
        momentum = noise.normal / self.inverse_mass**0.5
        end, turned = trajectory(
            lambda x: start(log_density, x),
            state,
            momentum,
            self.step_size,
            self.num_steps,
            self.inverse_mass,
        )
        error = self._energy(end, turned) - self._energy(state, momentum)
        error = torch.where(torch.isnan(error), torch.inf, error)
        accepted = noise.uniform < torch.exp(-error)
        kept = (torch.where(spread(accepted, new), new, old) for new, old in zip(end, state))
        return State(*kept), Info(torch.exp(-error).clip(max=1), accepted, error)

    def __repr__(self) -> str:
        return written(self, shown(self.step_size), str(self.num_steps), inverse_mass=1.0)

    def _energy(self, state: State, momentum: Tensor) -> Tensor:
        kinetic = 0.5 * summed(self.inverse_mass * momentum**2, state.log_density)
        return kinetic - state.log_density


class MALA(HMC):
    """The Metropolis-adjusted Langevin algorithm: x' = x + e^2 M^-1 g / 2 + e M^-1/2 xi with an
    exact correction; HMC of one leapfrog step.

    Args:
        step_size, inverse_mass: as `HMC` takes them.

    Cost:
        one value and gradient of the log-density.

    References:
        Roberts and Tweedie (1996), Exponential convergence of Langevin distributions, Bernoulli 2.

    Example:
        >>> MALA(0.3).num_steps
        1
    """

    def __init__(self, step_size: Any, *, inverse_mass: Any = 1.0) -> None:
        super().__init__(step_size, 1, inverse_mass=inverse_mass)

    def __repr__(self) -> str:
        return written(self, shown(self.step_size), inverse_mass=1.0)
