"""The flow of a diffusion,  dx = x dlog alpha + (dsigma - sigma dlog alpha) eps^,  whose solutions
have the marginals of the diffusion; in u = t^1/2, in which sigma is smooth.
"""

from math import log, pi
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dgm_core.ode import time_grid
from pyro_dgm.conditionals.base import size_of
from pyro_dgm.conditionals.diffusion.bound import entries_sum
from pyro_dgm.conditionals.diffusion.schedules import marginal, rates
from pyro_dgm.nn.ode import directional, integrate

__all__: list[str] = []  # for the package, not for users

_START = 1e-8  # in place of t = 0, where sigma has no derivative


def velocity(net: Any, noise: Any, u: Tensor, x: Tensor) -> Tensor:
    """dx / du at x (N, *event) and a single u."""
    schedule, t = net.schedule, u**2
    seen = t.clamp(min=max(schedule.t_min, 1 / (schedule.num_steps or 1e12)))
    (_, variance), (d_log_alpha, d_variance) = marginal(schedule, t), rates(schedule, t)
    log_seen, seen_variance = marginal(schedule, seen)
    sigma, level = variance**0.5, (seen, log_seen.exp(), seen_variance**0.5)
    found, _ = noise(x, *(part.expand(x.shape[:1]) for part in level))
    found = (
        found * (variance / seen_variance) ** 0.5
    )  # the score below the first level is that of it
    noisy = d_variance / (2 * sigma) - sigma * d_log_alpha
    return 2 * u * (d_log_alpha * x + noisy * found)


def moved(net: Any, noise: Any, x: Tensor, num_steps: int, *, down: bool) -> Tensor:
    """Where the flow takes x (N, *event): to noise at t = 1, or from there down to data."""
    times, scale = _times(net, num_steps), first_alpha(net, x)
    grid, start = (times[::-1].copy(), x) if down else (times, scale * x)
    end = integrate(lambda u, x: velocity(net, noise, u, x), start, grid)
    return end / scale if down else end


def log_density(net: Any, noise: Any, x: Tensor, num_steps: int, probes: Tensor | None) -> Tensor:
    """log p(x) (N,) by the change of density along the flow; with probes (K, N, *event) of +-1
    that of each, (K, N).
    """

    def field(u: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        value, along, directions = directional(
            lambda x: velocity(net, noise, u, x), state[0], x.ndim - 1, probes
        )
        changes = (along * directions).flatten(2).sum(-1)
        return value, changes.sum(0) if probes is None else changes

    start = x.new_zeros(len(x) if probes is None else (len(probes), len(x)))
    first = first_alpha(net, x)
    end, change = integrate(field, (first * x, start), _times(net, num_steps))
    scale = net.schedule.prior_scale
    entries = size_of(net.event_shape)
    top = -entries_sum((end / scale) ** 2) / 2 - entries * (log(2 * pi) / 2 + log(scale))
    return top + change + entries * first.log()


def first_alpha(net: Any, like: Tensor) -> Tensor:
    """alpha of level 0, by which a datum is multiplied where that has some noise, else 1."""
    return marginal(net.schedule, like.new_zeros(()))[0].exp()


def fixed_signs(num_probes: int, x: Tensor) -> Tensor:
    """Random signs (num_probes, *x.shape), the same for the same data."""
    made = torch.Generator().manual_seed(0)
    signs = torch.randint(0, 2, (num_probes, *x.shape), generator=made, device="cpu")
    return (2 * signs - 1).to(x)


def _times(net: Any, num_steps: int) -> Any:
    """The grid in u."""
    return np.sqrt(time_grid(_START, 1.0, num_steps, power=net.schedule.ode_power))
