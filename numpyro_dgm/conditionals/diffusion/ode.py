"""The flow of a diffusion,  dx = x dlog alpha + (dsigma - sigma dlog alpha) eps^,  whose solutions
have the marginals of the diffusion; in u = t^1/2, in which sigma is smooth.
"""

from math import log, pi
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from dgm_core.ode import time_grid
from numpyro_dgm.conditionals.base import size_of
from numpyro_dgm.conditionals.diffusion.bound import entries_sum
from numpyro_dgm.conditionals.diffusion.schedules import marginal, rates
from numpyro_dgm.nn.ode import directional, integrate

__all__: list[str] = []  # for the package, not for users

_START = 1e-8  # in place of t = 0, where sigma has no derivative


def velocity(net: Any, noise: Any, u: Array, x: Array) -> Array:
    """dx / du at x (N, *event) and a single u."""
    schedule, t = net.schedule, u**2
    seen = t.clip(min=max(schedule.t_min, 1 / (schedule.num_steps or 1e12)))
    (_, variance), (d_log_alpha, d_variance) = marginal(schedule, t), rates(schedule, t)
    log_seen, seen_variance = marginal(schedule, seen)
    sigma, level = variance**0.5, (seen, jnp.exp(log_seen), seen_variance**0.5)
    found, _ = noise(x, *(jnp.broadcast_to(part, x.shape[:1]) for part in level))
    found = (
        found * (variance / seen_variance) ** 0.5
    )  # the score below the first level is that of it
    noisy = d_variance / (2 * sigma) - sigma * d_log_alpha
    return 2 * u * (d_log_alpha * x + noisy * found)


def moved(net: Any, noise: Any, x: Array, num_steps: int, *, down: bool) -> Array:
    """Where the flow takes x (N, *event): to noise at t = 1, or from there down to data."""
    times, scale = _times(net, num_steps), first_alpha(net, x)
    grid, start = (times[::-1].copy(), x) if down else (times, scale * x)
    end = integrate(lambda u, x: velocity(net, noise, u, x), start, grid)
    return end / scale if down else end


def log_density(net: Any, noise: Any, x: Array, num_steps: int, probes: Array | None) -> Array:
    """log p(x) (N,) by the change of density along the flow; with probes (K, N, *event) of +-1
    that of each, (K, N).
    """

    def field(u: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        value, along, directions = directional(
            lambda x: velocity(net, noise, u, x), state[0], x.ndim - 1, probes
        )
        changes = (
            (along * directions).reshape(len(directions), len(x), size_of(net.event_shape)).sum(-1)
        )
        return value, changes.sum(0) if probes is None else changes

    start = jnp.zeros(len(x) if probes is None else (len(probes), len(x)), x.dtype)
    first = first_alpha(net, x)
    end, change = integrate(field, (first * x, start), _times(net, num_steps))
    scale = net.schedule.prior_scale
    entries = size_of(net.event_shape)
    top = -entries_sum((end / scale) ** 2) / 2 - entries * (log(2 * pi) / 2 + log(scale))
    return top + change + entries * jnp.log(first)


def first_alpha(net: Any, like: Array) -> Array:
    """alpha of level 0, by which a datum is multiplied where that has some noise, else 1."""
    return jnp.exp(marginal(net.schedule, jnp.zeros((), like.dtype))[0])


def fixed_signs(num_probes: int, x: Array) -> Array:
    """Random signs (num_probes, *x.shape), the same for the same data."""
    return jax.random.rademacher(jax.random.key(0), (num_probes, *x.shape), x.dtype)


def _times(net: Any, num_steps: int) -> Any:
    """The grid in u."""
    return np.sqrt(time_grid(_START, 1.0, num_steps, power=net.schedule.ode_power))
