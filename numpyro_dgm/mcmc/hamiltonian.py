"""Hamiltonian kernels: leapfrog steps, HMC, and MALA, which is HMC of one step.

H(x, p) = -log pi(x) + p^T M^-1 p / 2 with a momentum p ~ Normal(0, M). A leapfrog step keeps volume
and is its own inverse after p -> -p, so that accepting with probability min(1, exp(H - H')) leaves
pi as it is, exactly, whatever the step size.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from dgm_core.arguments import check_count, shown
from dgm_core.kernels import check_scale
from dgm_core.terms import written
from numpyro_dgm.mcmc.base import Info, LogDensity, Noise, State, spread, start, summed

__all__ = ["HMC", "MALA", "bounded", "leapfrog"]


def leapfrog(
    force: Callable[[Array], Array],
    position: Array,
    momentum: Array,
    step_size: Any,
    num_steps: int = 1,
    *,
    inverse_mass: Any = 1.0,
) -> tuple[Array, Array]:
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
        >>> x, p = leapfrog(lambda x: -x, jnp.ones(1), jnp.zeros(1), 0.1, 63)
        >>> bool(abs(x[0] - 1) < 1e-3)  # once around: 63 steps of 0.1 are 2 pi
        True
    """
    num_steps = check_count("num_steps", num_steps)
    nothing = jnp.zeros(())

    def at(x: Array) -> State:
        return State(x, nothing, force(x))

    end, momentum = trajectory(at, at(position), momentum, step_size, num_steps, inverse_mass)
    return end.position, momentum


def trajectory(
    at: Callable[[Array], State],
    state: State,
    momentum: Array,
    step_size: Any,
    num_steps: int,
    inverse_mass: Any,
) -> tuple[State, Array]:
    """The same from a state to a state; `at` evaluates a position."""

    def step(both: tuple[State, Array], _: None) -> tuple[tuple[State, Array], None]:
        state, momentum = both
        state = at(state.position + step_size * inverse_mass * momentum)
        return (state, momentum + step_size * state.gradient), None

    momentum = momentum + 0.5 * step_size * state.gradient
    (state, momentum), _ = jax.lax.scan(step, (state, momentum), length=num_steps)
    return state, momentum - 0.5 * step_size * state.gradient


def bounded(force: Array, largest: Any) -> Array:
    """A force whose length stays below a bound, smoothly: g / sqrt(1 + |g|^2 / largest^2) over the
    last dimension.

    Leapfrog steps with it keep volume as ever, and do not explode; the energy is then no longer
    kept to second order.

    Example:
        >>> bool(jnp.linalg.norm(bounded(jnp.array([300.0, 400.0]), 20.0)) < 20)
        True
    """
    return force / jnp.sqrt(1 + (force**2).sum(-1, keepdims=True) / largest**2)


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
        >>> kernel, state = HMC(0.3, 5), start(log_density, jnp.zeros((4, 2)))
        >>> state, info = kernel(log_density, state, kernel.noise(state, key=jax.random.key(0)))
        >>> info.acceptance.shape
        (4,)
    """

    def __init__(self, step_size: Any, num_steps: int, *, inverse_mass: Any = 1.0) -> None:
        self.step_size = check_scale("step_size", step_size)
        self.num_steps = check_count("num_steps", num_steps)
        self.inverse_mass = check_scale("inverse_mass", inverse_mass)

    def noise(self, state: State, *, key: Array) -> Noise:
        """Standard normal numbers for the momentum, uniform ones for the decision."""
        normal, uniform = jax.random.split(key)
        x, log_density = state.position, state.log_density
        return Noise(
            jax.random.normal(normal, x.shape, x.dtype),
            jax.random.uniform(uniform, log_density.shape, log_density.dtype),
        )

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
        error = jnp.where(jnp.isnan(error), jnp.inf, error)
        accepted = noise.uniform < jnp.exp(-error)
        kept = (jnp.where(spread(accepted, new), new, old) for new, old in zip(end, state))
        return State(*kept), Info(jnp.exp(-error).clip(max=1), accepted, error)

    def __repr__(self) -> str:
        return written(self, shown(self.step_size), str(self.num_steps), inverse_mass=1.0)

    def _energy(self, state: State, momentum: Array) -> Array:
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
