"""Bounds of a diffusion, from the noise that its network predicts at a few times.

All are nats of each datum, (N,), and right on average over times and noise.
"""

from math import inf, log, pi
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import log_ndtr

from dgm_core.diffusion_steps import Steps, error_weight
from numpyro_dgm.conditionals.base import size_of
from numpyro_dgm.conditionals.diffusion.schedules import LearnedSchedule, marginal, of_gamma
from numpyro_dgm.nn.contexts import spread

__all__: list[str] = []  # for the package, not for users


def chain_bound(
    net: Any,
    x: Array,
    context: Any,
    steps: Steps,
    num_times: int | None,
    closed: bool,
    *,
    key: Array,
) -> Array:
    """The bound of a chain on log p(x), x (N, *event): by some of its steps, or with None by all of
    them; log-ratios are then along one path, closed forms each at noise of its own.
    """
    num, one = len(steps.t), jnp.ones(len(x), x.dtype)
    keys = jax.random.split(key, 4)
    if num_times is None:
        index = jnp.arange(num).repeat(len(x))
        first, noise, below = _path(net, x, steps, keys[0])
        last = None if closed else noise[-1]
        noise, below = (part.reshape(-1, *x.shape[1:]) for part in (noise, below))
        noise = jax.random.normal(keys[1], noise.shape, x.dtype) if closed else noise
    else:
        shares = step_shares(steps)
        times = spread_times(keys[0], len(x), num_times, x).ravel()
        index = jnp.searchsorted(shares.cumsum(0), times, side="right").clip(max=num - 1)
        first, last = jax.random.normal(keys[1], x.shape, x.dtype), None
        shape = (len(index), *x.shape[1:])  # each of its own key: what is not used is not drawn
        noise, below = (jax.random.normal(key, shape, x.dtype) for key in keys[2:])
    own, repeats = steps.at(index), num_times or num
    repeated, context = repeat(net, x, context, repeats)
    losses = step_loss(net, repeated, context, own, noise, None if closed else below)
    if num_times is None:
        total = losses.reshape(repeats, len(x)).sum(0)
    else:
        known = constants(net, steps)  # need no network, and so are summed over all steps
        rest = (losses - known[index]) / shares[index]
        total = known.sum() + rest.reshape(repeats, len(x)).mean(0)
    total = total + prior_loss(net, x, steps.alpha[-1] * one, steps.sigma[-1] * one, last)
    if net.is_clean:
        return -total
    bottom = steps.alpha_below[0] * one, steps.sigma_below[0] * one
    return -total - decoder_loss(net, x, *bottom, first, closed)


def continuous_bound(net: Any, x: Array, context: Any, num_times: int, *, key: Array) -> Array:
    """The bound in continuous time: L = 1/2 int E |eps - eps^|^2 d gamma, gamma from that of t_min
    to that of 1, between the decoder there and the prior.
    """
    keys = jax.random.split(key, 3)
    schedule, u = net.schedule, spread_times(keys[0], len(x), num_times, x).ravel()
    noise = jax.random.normal(keys[1], (len(u), *x.shape[1:]), x.dtype)
    repeated, context = repeat(net, x, context, num_times)
    ends = jnp.asarray([schedule.t_min, 1.0], x.dtype)
    log_alpha, variance = marginal(schedule, ends)

    def losses(t: Array, log_alpha: Array, variance: Array, rate: Array) -> Array:
        alpha, sigma = jnp.exp(log_alpha), variance**0.5
        x_t = net.spread(alpha) * repeated + net.spread(sigma) * noise
        found, _ = net.noise(x_t, t, alpha, sigma, context)
        return rate / 2 * entries_sum((noise - found) ** 2)

    if isinstance(schedule, LearnedSchedule):
        gamma, rate = jax.jvp(schedule.gamma, (u,), (jnp.ones_like(u),))
        found = less_noisy(lambda g, r: losses(u, *of_gamma(g), r), gamma, rate)
    else:
        gammas = jnp.log(variance) - 2 * log_alpha
        t = schedule.time_of(gammas[0] + u * (gammas[1] - gammas[0]), jnp)
        found = losses(t, *marginal(schedule, t), jnp.broadcast_to(gammas[1] - gammas[0], u.shape))
    alpha, sigma = (
        jnp.broadcast_to(part[:, None], (2, len(x))) for part in (jnp.exp(log_alpha), variance**0.5)
    )
    total = found.reshape(num_times, len(x)).mean(0) + prior_loss(net, x, alpha[1], sigma[1], None)
    decoded = jax.random.normal(keys[2], x.shape, x.dtype)
    return -total - decoder_loss(net, x, alpha[0], sigma[0], decoded, True)


def weighted_error(
    net: Any, x: Array, context: Any, weight: str, num_times: int, *, key: Array
) -> Array:
    """The mean squared error of what is predicted, at uniform times."""
    keys = jax.random.split(key)
    schedule, u = net.schedule, spread_times(keys[0], len(x), num_times, x).ravel()
    if schedule.num_steps is not None:
        u = (jnp.floor(u * schedule.num_steps) + 1).clip(max=schedule.num_steps)
        t = u / schedule.num_steps
    else:
        t = schedule.t_min + u * (1 - schedule.t_min)
    noise = jax.random.normal(keys[1], (len(t), *x.shape[1:]), x.dtype)
    repeated, context = repeat(net, x, context, num_times)
    log_alpha, variance = marginal(schedule, t)
    alpha, sigma = jnp.exp(log_alpha), variance**0.5
    x_t = net.spread(alpha) * repeated + net.spread(sigma) * noise
    found, _ = net.noise(x_t, t, alpha, sigma, context)
    error = ((noise - found) ** 2).mean(tuple(range(1, x.ndim)))
    error = error * error_weight(weight, alpha, sigma)
    return error.reshape(num_times, len(x)).mean(0)


def constants(net: Any, steps: Steps) -> Array:
    """What the losses of all steps (S,) would be if the network made no error."""
    log_variance = net.log_variance(steps, None).reshape(-1)
    clean = steps.small == 0
    small = jnp.where(clean, 1.0, steps.small)
    own = small * jnp.exp(-log_variance) - jnp.log(small) - 1
    return size_of(net.event_shape) * (log_variance + jnp.where(clean, log(2 * pi), own)) / 2


def step_shares(steps: Steps) -> Array:
    """How often each step is taken, (S,): in proportion to what it changes gamma, the log ratio of
    noise and datum, as its part of the bound roughly is.
    """
    keep = jax.lax.stop_gradient(steps.large / steps.sigma**2)
    clean = steps.small == 0
    change = -jnp.log1p(-jnp.where(clean, 0.5, keep))
    change = jnp.where(clean, change[1:2].sum().clip(min=1.0), change)
    return change / change.sum()


def spread_times(key: Array, num_data: int, num_times: int, like: Array) -> Array:
    """Times in [0, 1), (num_times, num_data): each uniform, and all of them together evenly spread:
    one shift for all, those of a datum in strata.
    """
    shift = jax.random.uniform(key, (), like.dtype)
    place = jnp.arange(num_data, dtype=like.dtype) / num_data
    strata = jnp.arange(num_times, dtype=like.dtype)[:, None]
    return ((shift + place) % 1 + strata) / num_times


def repeat(net: Any, x: Array, context: Any, times: int) -> tuple[Array, Any]:
    """Data (N, *event) and their contexts, one behind the other several times."""
    x = jnp.broadcast_to(x, (times, *x.shape))
    return x.reshape(-1, *x.shape[2:]), spread(context, net.context_shape, x.shape[:2])


def entries_sum(x: Array) -> Array:
    """The sum over all but the first dimension."""
    return x.sum(tuple(range(1, x.ndim)))


def _path(net: Any, x: Array, steps: Steps, key: Array) -> tuple[Array, Array, Array]:
    """One path x_0, ..., x_S up the chain: the noise of x_0, that of each x_t beyond alpha_t x, and
    that of each x_s beyond the posterior's mean given x_t and x: (N, *event) and (S, N, *event).
    """
    keys = jax.random.split(key)
    first = jax.random.normal(keys[0], x.shape, x.dtype)
    start = 0 * first if net.is_clean else steps.sigma_below[0] / steps.alpha_below[0] * first
    up = jax.random.normal(keys[1], (len(steps.t), *x.shape), x.dtype)
    alpha, sigma, up_scale, data, noisy, small = (
        part.reshape(-1, *(1,) * x.ndim)
        for part in (
            steps.alpha,
            steps.sigma,
            steps.large**0.5 / steps.alpha,
            steps.data,
            steps.noisy,
            steps.small,
        )
    )
    beyond = jnp.concatenate(
        [start[None], start + (up_scale * up).cumsum(0)]
    )  # (x_t / alpha_t) - x
    x_t = alpha * (x + beyond[1:])
    x_s = steps.alpha_below.reshape(alpha.shape) * (x + beyond[:-1])
    below = (x_s - data * x - noisy * x_t) / jnp.where(small > 0, small, 1.0) ** 0.5
    return first, alpha * beyond[1:] / sigma, below


def step_loss(
    net: Any, x: Array, context: Any, steps: Steps, noise: Array, below: Array | None
) -> Array:
    """KL(q(x_s | x_t, x), p(x_s | x_t)) of each datum at its own step, or with the noise `below` of
    x_s the log-ratio there; where x_s is the datum, -log p(x | x_t).
    """
    x_t = net.spread(steps.alpha) * x + net.spread(steps.sigma) * noise
    found, raw = net.noise(x_t, steps.t, steps.alpha, steps.sigma, context)
    log_variance = net.log_variance(steps, raw)
    ratio = net.spread(steps.data * steps.sigma / steps.alpha)
    miss = ratio * (found - noise)  # of the mean, the posterior's minus the network's
    clean = net.spread(steps.small == 0)
    small = jnp.where(clean, 1.0, net.spread(steps.small))
    if below is None:
        off = miss**2 + jnp.where(clean, 0.0, small)
        rest = jnp.where(clean, log(2 * pi), -jnp.log(small) - 1)
    else:
        off = (miss + jnp.where(clean, 0.0, small**0.5 * below)) ** 2
        rest = jnp.where(clean, log(2 * pi), -jnp.log(small) - below**2)
    losses = (log_variance + off * jnp.exp(-log_variance) + rest) / 2
    if net.num_levels is not None and net.is_clean:
        coded = -bin_mass(x, x - miss, jnp.exp(log_variance / 2), net.num_levels)
        losses = jnp.where(clean, coded, losses)
    return entries_sum(jnp.broadcast_to(losses, x.shape))


def prior_loss(net: Any, x: Array, alpha: Array, sigma: Array, noise: Array | None) -> Array:
    """KL(q(x_T | x), p(x_T)), or with the noise of x_T the log-ratio there."""
    a, s = net.spread(alpha), net.spread(sigma / net.schedule.prior_scale)
    a = a / net.schedule.prior_scale
    if noise is None:
        return entries_sum(s**2 - 1 + (a * x) ** 2 - 2 * jnp.log(s)) / 2
    return entries_sum((a * x + s * noise) ** 2 - noise**2 - 2 * jnp.log(s)) / 2


def decoder_loss(
    net: Any, x: Array, alpha: Array, sigma: Array, noise: Array, closed: bool
) -> Array:
    """-log p(x | x_0) of a datum with a little noise, x_0 = alpha x + sigma noise."""
    scale = net.spread(sigma / alpha)
    if net.num_levels is not None:
        return -entries_sum(bin_mass(x, x + scale * noise, scale, net.num_levels))
    square = jnp.ones_like(noise) if closed else noise**2
    return entries_sum(log(2 * pi) + 2 * jnp.log(scale) + square) / 2


def bin_mass(x: Array, mean: Array, scale: Array, num_levels: int) -> Array:
    """log of the mass of Normal(mean, scale^2) between the middles around a level of [-1, 1], which
    reaches to infinity at both ends.
    """
    half = 1 / (num_levels - 1)
    low = jnp.where(x < -1 + half, -inf, x - half)
    high = jnp.where(x > 1 - half, inf, x + half)
    flip = x > mean
    far = 1e4 * scale  # in place of infinity, for gradients
    low, high = (low - mean).clip(-far, far), (high - mean).clip(-far, far)
    low, high = jnp.where(flip, -high, low) / scale, jnp.where(flip, -low, high) / scale
    upper = log_ndtr(high)
    return upper + jnp.log(-jnp.expm1((log_ndtr(low) - upper).clip(max=-1e-30)))


def less_noisy(losses: Any, gamma: Array, rate: Array) -> Array:
    """Losses of which the schedule has the gradient of their squares, whose mean it can change;
    that of the losses themselves depends on the ends alone.
    """
    found, pull = jax.vjp(losses, *jax.lax.stop_gradient((gamma, rate)))
    slopes = jax.lax.stop_gradient(pull(jnp.ones_like(found)))
    surrogate = 2 * jax.lax.stop_gradient(found) * (slopes[0] * gamma + slopes[1] * rate)
    return found + (surrogate - jax.lax.stop_gradient(surrogate))
