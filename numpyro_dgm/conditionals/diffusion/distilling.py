"""Progressive distillation: a student that makes one step of DDIM where its teacher makes two."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from dgm_core.diffusion_steps import Steps, error_weight
from numpyro_dgm.conditionals.diffusion.bound import repeat, spread_times

__all__: list[str] = []  # for the package, not for users


def distillation_error(
    net: Any,
    teacher: Any,
    x: Array,
    context: Any,
    num_steps: int,
    weight: str,
    num_times: int,
    *,
    key: Array,
) -> Array:
    """The weighted error of a student at random steps of its chain, (N,), x (N, *event)."""
    keys = jax.random.split(key)
    times = spread_times(keys[0], len(x), num_times, x).ravel()
    index = jnp.floor(times * num_steps).astype(int).clip(max=num_steps - 1)
    noise = jax.random.normal(keys[1], (len(index), *x.shape[1:]), x.dtype)
    repeated, context = repeat(net, x, context, num_times)
    error = errors_at(net, teacher, repeated, context, num_steps, index, noise)
    steps = net.steps(num_steps, x).at(index)
    error = error * error_weight(weight, steps.alpha, steps.sigma)
    return error.reshape(num_times, len(x)).mean(0)


def errors_at(
    net: Any,
    teacher: Any,
    x: Array,
    context: Any,
    num_steps: int,
    index: Array,
    noise: Array,
) -> Array:
    """|eps^ - eps~|^2 / D of each datum at its own step, (N,): eps~ is the noise with which the
    student's step from x_t ends where two of the teacher do.
    """
    own, halves = net.steps(num_steps, x).at(index), teacher.steps(2 * num_steps, x)
    x_t = net.spread(own.alpha) * x + net.spread(own.sigma) * noise
    below = x_t
    for half in (1, 0):
        below = _moved(teacher, below, halves.at(2 * index + half), context)
    alpha, sigma, alpha_below, sigma_below = map(
        net.spread, (own.alpha, own.sigma, own.alpha_below, own.sigma_below)
    )
    wanted = (alpha_below * x_t - alpha * below) / (alpha_below * sigma - alpha * sigma_below)
    found, _ = net.noise(x_t, own.t, own.alpha, own.sigma, context)
    return ((found - jax.lax.stop_gradient(wanted)) ** 2).reshape(len(x), -1).mean(1)


def _moved(net: Any, x: Array, step: Steps, context: Any) -> Array:
    """Where a step of DDIM ends, each row's own."""
    alpha, sigma, alpha_below, sigma_below = map(
        net.spread, (step.alpha, step.sigma, step.alpha_below, step.sigma_below)
    )
    found, _ = net.noise(x, step.t, step.alpha, step.sigma, context)
    data = (x - sigma * found) / alpha
    if net.num_levels is not None:
        data = data.clip(-1, 1)
        found = (x - alpha * data) / sigma
    return alpha_below * data + sigma_below * found
