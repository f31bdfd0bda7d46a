"""Draws from a diffusion, step by step."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from dgm_core.diffusion_steps import Steps, ddim

__all__: list[str] = []  # for the package, not for users


def drawn(
    net: Any,
    noise: Any,
    x: Array,
    steps: Steps,
    method: str,
    eta: float,
    known: tuple[Array, Array] | None,
    *,
    key: Array,
) -> Array:
    """Draws (N, *event) from noise x at the last level.

    Ancestral: Normal(data x^ + noisy x_t, variance), without noise in the last step where that
    ends at a datum; DDIM: alpha_s x^ + direction eps^ + deviation noise.
    """
    num, (direction, deviation) = len(steps.t), ddim(steps, eta)
    noiseless = method == "ddim" and not eta

    def step_down(x: Array, index: Array) -> tuple[Array, None]:
        own, keys = steps.at(index), jax.random.split(jax.random.fold_in(key, index))
        step = Steps(*(jnp.broadcast_to(part, (len(x),)) for part in own))
        found, raw = noise(x, step.t, step.alpha, step.sigma)
        data = (x - own.sigma * found) / own.alpha
        if net.num_levels is not None:
            data = data.clip(-1, 1)
            found = (x - own.alpha * data) / own.sigma
        if method == "ddim":
            mean = own.alpha_below * data + direction[index] * found
            scale = deviation[index]
        else:
            mean = own.data * data + own.noisy * x
            scale = jnp.exp(net.log_variance(step, raw) / 2)
        last = (index == 0) & net.is_clean
        random = 0.0 if noiseless else scale * jax.random.normal(keys[0], x.shape, x.dtype)
        x = mean if noiseless else jnp.where(last, mean, mean + random)
        if known is not None:
            value, mask = known
            seen = own.alpha_below * value
            seen = seen + own.sigma_below * jax.random.normal(keys[1], x.shape, x.dtype)
            x = jnp.where(mask, seen, x)
        return x, None

    x, _ = jax.lax.scan(step_down, x, jnp.arange(num - 1, -1, -1))
    return x if net.is_clean else x / steps.alpha_below[0]
