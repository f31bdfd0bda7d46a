"""What transition kernels have in common: states, noise, and a chain of transitions."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import jax
from jax import Array

from dgm_core.arguments import check_count
from dgm_core.kernels import wrong_shape

__all__ = ["Info", "Kernel", "Noise", "State", "chain", "start"]

LogDensity = Callable[[Array], Array]


class State(NamedTuple):
    """Where chains are, with what a kernel knows there.

    Shapes:
        position (*batch, *event);  log_density (*batch,);  gradient as position.
    """

    position: Array
    log_density: Array
    gradient: Array


class Info(NamedTuple):
    """What happened in a transition, each (*batch,).

    acceptance, the probability with which the proposal was taken;  accepted, whether it was;
    energy_error, by which the integrator missed (infinite where a number overflowed). A kernel
    without a correction takes everything, and its energy error is 0.
    """

    acceptance: Array
    accepted: Array
    energy_error: Array


class Noise(NamedTuple):
    """The random numbers of one transition: standard normal ones (*position, or with the steps in
    front), and uniform ones on [0, 1) of shape (*batch,)."""

    normal: Array
    uniform: Array


class Kernel(Protocol):
    """What maps states, given a log-density and noise, to the next states.

    A kernel is a pure function: whoever calls it brings the noise, so that a transition can be
    compiled, scanned, differentiated, and repeated.
    """

    def noise(self, state: State, *, key: Array) -> Noise:
        """Random numbers for one transition from here."""

    def __call__(self, log_density: LogDensity, state: State, noise: Noise) -> tuple[State, Info]:
        """One transition of all chains."""


def start(log_density: LogDensity, position: Array) -> State:
    """The state at a position: log p and its gradient there.

    Chains, data and particles are leading dimensions: the log-density maps (*batch, *event) to
    (*batch,), and what is behind the batch is one event, of any shape.

    Args:
        log_density: log p up to a constant, of unconstrained values.
        position: (*batch, *event).

    Cost:
        one value and gradient. Where gradients are recorded (in Pyro: outside `torch.no_grad()`)
        the result can be differentiated, also with respect to parameters of the log-density, and
        a chain holds the graph of all its steps.

    Raises:
        ValueError: when the log-density is not (*batch,) for a position (*batch, *event).

    Example:
        >>> start(lambda x: -(x**2).sum(-1) / 2, jnp.ones((3, 2))).gradient.tolist()
        [[-1.0, -1.0], [-1.0, -1.0], [-1.0, -1.0]]
    """

    def total(x: Array) -> tuple[Array, Array]:
        value = log_density(x)
        if value.shape != x.shape[: value.ndim]:
            raise ValueError(wrong_shape(value.shape, x.shape))
        return value.sum(), value

    (_, value), gradient = jax.value_and_grad(total, has_aux=True)(position)
    return State(position, value, gradient)


def chain(
    kernel: Kernel, log_density: LogDensity, position: Array, num_steps: int, *, key: Array
) -> tuple[State, Array, Info]:
    """So many transitions from a position, with fresh noise in each.

    Args:
        kernel, log_density, position: see `start`.
        num_steps: transitions.
        key: in NumPyro, what the noise comes from.

    Returns:
        The last state; all positions (num_steps, *batch, *event) and the `Info` of all transitions
        (num_steps, *batch).

    Cost:
        num_steps transitions, in NumPyro one compiled loop (`jax.lax.scan`).

    Raises:
        ValueError: for bad arguments.

    Example:
        >>> from numpyro_dgm.mcmc import HMC
        >>> def log_density(x):
        ...     return -(x**2).sum(-1)
        >>> x, key = jnp.zeros((9, 2)), jax.random.key(0)
        >>> _, x, info = chain(HMC(0.5, 4), log_density, x, 5, key=key)
        >>> x.shape, info.accepted.shape
        ((5, 9, 2), (5, 9))
    """
    num_steps = check_count("num_steps", num_steps)

    def transition(state: State, key: Array) -> tuple[State, tuple[Array, Info]]:
        state, info = kernel(log_density, state, kernel.noise(state, key=key))
        return state, (state.position, info)

    keys = jax.random.split(key, num_steps)
    state, (positions, infos) = jax.lax.scan(transition, start(log_density, position), keys)
    return state, positions, infos


def summed(x: Array, like: Array) -> Array:
    """The sum over the event: (*batch, *event) -> (*batch,), as `like`."""
    return x.reshape(*like.shape, -1).sum(-1)


def spread(x: Array, like: Array) -> Array:
    """(*batch,) with as many dimensions as `like` (*batch, *event)."""
    return x.reshape(x.shape + (1,) * (like.ndim - x.ndim))
