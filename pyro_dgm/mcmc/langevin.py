"""Langevin steps without a correction, for energies and wherever a bias is borne for speed."""

from typing import Any

import torch

from dgm_core.arguments import check_count, check_number, shown
from dgm_core.energies import implied_temperature
from dgm_core.kernels import check_scale
from dgm_core.terms import written
from pyro_dgm.mcmc.base import Info, LogDensity, Noise, State, start

__all__ = ["Langevin"]


class Langevin:
    """Unadjusted Langevin steps  x' = x + e^2 g / 2 + e sqrt(T) xi,  g the gradient of log pi.

    Nothing is ever refused, so chains end in a distribution that is pi^(1/T) only up to O(e^2):
    for Normal(0, s^2) they end in the variance T s^2 / (1 - e^2 / (4 s^2)) instead of T s^2, and
    for e >= 2 s they run away. `MALA` with the same e has no bias.

    Args:
        step_size: e > 0, a number or an array that broadcasts to the position. (Papers on energies
            often write lambda = e^2.)
        num_steps: steps of one transition.
        temperature: T; 0 climbs the density without noise, below 1 samples a sharper one.
        noise: the standard deviation of the noise, e sqrt(T), in place of the temperature: as
            papers on energies give it beside a step e^2 / 2 of another size.

    Cost:
        num_steps values and gradients of the log-density.

    Raises:
        ValueError: for bad arguments, and for noise beside a temperature.

    References:
        Roberts and Tweedie (1996), Bernoulli 2; Welling and Teh (2011), Bayesian learning via
        stochastic gradient Langevin dynamics, ICML.

    Example:
        >>> def log_density(x):
        ...     return -(x**2).sum(-1) / 2
        >>> kernel, state = Langevin(0.1, 20), start(log_density, torch.ones(4, 2))
        >>> state, _ = kernel(log_density, state, kernel.noise(state))
        >>> state.position.shape
        torch.Size([4, 2])
    """

    def __init__(
        self,
        step_size: Any,
        num_steps: int = 1,
        *,
        temperature: float = 1.0,
        noise: float | None = None,
    ) -> None:
        self.step_size = check_scale("step_size", step_size)
        self.num_steps = check_count("num_steps", num_steps)
        self.temperature = check_number("temperature", temperature, least=0)
        if noise is not None:
            own = check_number("noise", noise, least=0)
            if temperature != 1.0 or not isinstance(self.step_size, float):
                raise ValueError(
                    "noise gives the temperature (noise / step_size)^2 of a step_size that is a "
                    f"number: leave out temperature={temperature!r}, or noise={noise!r}."
                )
            self.temperature = implied_temperature(self.step_size, own)

    def noise(self, state: State) -> Noise:
        """Standard normal numbers (num_steps, *batch, *event); no uniform ones are needed."""
        normal = torch.randn_like(state.position.expand(self.num_steps, *state.position.shape))
        return Noise(normal, torch.zeros_like(state.log_density))

    def __call__(self, log_density: LogDensity, state: State, noise: Noise) -> tuple[State, Info]:
        """All steps of all chains."""
        for normal in noise.normal:
            moved = state.position + 0.5 * self.step_size**2 * state.gradient
            moved = moved + self.step_size * self.temperature**0.5 * normal
            state = start(log_density, moved)
        one = torch.ones_like(state.log_density)
        return state, Info(one, one > 0, torch.zeros_like(one))

    def __repr__(self) -> str:
        return written(self, shown(self.step_size), str(self.num_steps), temperature=1.0)
