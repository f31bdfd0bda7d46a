"""What transition kernels have in common: states, noise, and a chain of transitions."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from dgm_core.arguments import check_count
from dgm_core.kernels import wrong_shape
from pyro_dgm.nn.attention import all_derivatives

__all__ = ["Info", "Kernel", "Noise", "State", "chain", "start"]

LogDensity = Callable[[Tensor], Tensor]


class State(NamedTuple):
    """Where chains are, with what a kernel knows there.

    Shapes:
        position (*batch, *event);  log_density (*batch,);  gradient as position.
    """

    position: Tensor
    log_density: Tensor
    gradient: Tensor


class Info(NamedTuple):
    """What happened in a transition, each (*batch,).

    acceptance, the probability with which the proposal was taken;  accepted, whether it was;
    energy_error, by which the integrator missed (infinite where a number overflowed). A kernel
    without a correction takes everything, and its energy error is 0.
    """

    acceptance: Tensor
    accepted: Tensor
    energy_error: Tensor


class Noise(NamedTuple):
    """The random numbers of one transition: standard normal ones (*position, or with the steps in
    front), and uniform ones on [0, 1) of shape (*batch,)."""

    normal: Tensor
    uniform: Tensor


class Kernel(Protocol):
    """What maps states, given a log-density and noise, to the next states.

    A kernel is a pure function: whoever calls it brings the noise, so that a transition can be
    compiled, scanned, differentiated, and repeated.
    """

    def noise(self, state: State) -> Noise:
        """Random numbers for one transition from here."""

    def __call__(self, log_density: LogDensity, state: State, noise: Noise) -> tuple[State, Info]:
        """One transition of all chains."""


def start(log_density: LogDensity, position: Tensor) -> State:
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
        >>> start(lambda x: -(x**2).sum(-1) / 2, torch.ones(3, 2)).gradient.tolist()
        [[-1.0, -1.0], [-1.0, -1.0], [-1.0, -1.0]]
    """
    recorded = torch.is_grad_enabled()
    with torch.enable_grad():
        own = position if recorded and position.requires_grad else position.detach()
        own = own if own.requires_grad else own.requires_grad_()
        with all_derivatives() if recorded else nullcontext():
            value = log_density(own)
        if tuple(value.shape) != tuple(own.shape[: value.ndim]):
            raise ValueError(wrong_shape(tuple(value.shape), tuple(own.shape)))
        (gradient,) = torch.autograd.grad(value.sum(), own, create_graph=recorded)
    return State(position, value if recorded else value.detach(), gradient)


def chain(
    kernel: Kernel, log_density: LogDensity, position: Tensor, num_steps: int
) -> tuple[State, Tensor, Info]:
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
        >>> from pyro_dgm.mcmc import HMC
        >>> with torch.no_grad():
        ...     _, x, info = chain(HMC(0.5, 4), lambda x: -(x**2).sum(-1), torch.zeros(9, 2), 5)
        >>> x.shape, info.accepted.shape
        (torch.Size([5, 9, 2]), torch.Size([5, 9]))
    """
    num_steps = check_count("num_steps", num_steps)
    state = start(log_density, position)
    positions, infos = [], []
    for _ in range(num_steps):
        state, info = kernel(log_density, state, kernel.noise(state))
        positions.append(state.position)
        infos.append(info)
    return state, torch.stack(positions), Info(*map(torch.stack, zip(*infos, strict=True)))


def summed(x: Tensor, like: Tensor) -> Tensor:
    """The sum over the event: (*batch, *event) -> (*batch,), as `like`."""
    return x.reshape(*like.shape, -1).sum(-1)


def spread(x: Tensor, like: Tensor) -> Tensor:
    """(*batch,) with as many dimensions as `like` (*batch, *event)."""
    return x.reshape(x.shape + (1,) * (like.ndim - x.ndim))
