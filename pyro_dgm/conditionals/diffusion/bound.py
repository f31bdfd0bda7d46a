"""Bounds of a diffusion, from the noise that its network predicts at a few times.

All are nats of each datum, (N,), and right on average over times and noise.
"""

from math import inf, log, pi
from typing import Any

import torch
from torch import Tensor
from torch.func import jvp
from torch.special import log_ndtr

from dgm_core.diffusion_steps import Steps, error_weight
from pyro_dgm.conditionals.base import size_of
from pyro_dgm.conditionals.diffusion.schedules import LearnedSchedule, marginal, of_gamma
from pyro_dgm.nn.contexts import spread

__all__: list[str] = []  # for the package, not for users


def chain_bound(
    net: Any, x: Tensor, context: Any, steps: Steps, num_times: int | None, closed: bool
) -> Tensor:
    """The bound of a chain on log p(x), x (N, *event): by some of its steps, or with None by all of
    them; log-ratios are then along one path, closed forms each at noise of its own.
    """
    num, one = len(steps.t), torch.ones_like(x[:, :0].flatten(1).sum(1))
    if num_times is None:
        index = torch.arange(num, device=x.device).repeat_interleave(len(x))
        first, noise, below = _path(net, x, steps)
        last = None if closed else noise[-1]
        noise, below = noise.flatten(0, 1), below.flatten(0, 1)
        noise = torch.randn_like(noise) if closed else noise
    else:
        shares = step_shares(steps)
        times = spread_times(len(x), num_times, x).flatten()
        index = torch.searchsorted(shares.cumsum(0), times, right=True).clamp(max=num - 1)
        noise = torch.randn(len(index), *x.shape[1:], dtype=x.dtype, device=x.device)
        below = noise if closed else torch.randn_like(noise)  # what is not used is not drawn
        first, last = x if net.is_clean else torch.randn_like(x), None
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


def continuous_bound(net: Any, x: Tensor, context: Any, num_times: int) -> Tensor:
    """The bound in continuous time: L = 1/2 int E |eps - eps^|^2 d gamma, gamma from that of t_min
    to that of 1, between the decoder there and the prior.
    """
    schedule, u = net.schedule, spread_times(len(x), num_times, x).flatten()
    noise = torch.randn(len(u), *x.shape[1:], dtype=x.dtype, device=x.device)
    repeated, context = repeat(net, x, context, num_times)
    ends = torch.as_tensor([schedule.t_min, 1.0], dtype=x.dtype, device=x.device)
    log_alpha, variance = marginal(schedule, ends)

    def losses(t: Tensor, log_alpha: Tensor, variance: Tensor, rate: Tensor) -> Tensor:
        alpha, sigma = log_alpha.exp(), variance**0.5
        x_t = net.spread(alpha) * repeated + net.spread(sigma) * noise
        found, _ = net.noise(x_t, t, alpha, sigma, context)
        return rate / 2 * entries_sum((noise - found) ** 2)

    if isinstance(schedule, LearnedSchedule):
        gamma, rate = jvp(schedule.gamma, (u,), (torch.ones_like(u),))  # type: ignore[misc]
        found = less_noisy(lambda g, r: losses(u, *of_gamma(g), r), gamma, rate)
    else:
        gammas = variance.log() - 2 * log_alpha
        t = schedule.time_of(gammas[0] + u * (gammas[1] - gammas[0]), torch)
        found = losses(t, *marginal(schedule, t), (gammas[1] - gammas[0]).expand(len(u)))
    alpha, sigma = (part[:, None].expand(2, len(x)) for part in (log_alpha.exp(), variance**0.5))
    total = found.reshape(num_times, len(x)).mean(0) + prior_loss(net, x, alpha[1], sigma[1], None)
    return -total - decoder_loss(net, x, alpha[0], sigma[0], torch.randn_like(x), True)


def weighted_error(net: Any, x: Tensor, context: Any, weight: str, num_times: int) -> Tensor:
    """The mean squared error of what is predicted, at uniform times."""
    schedule, u = net.schedule, spread_times(len(x), num_times, x).flatten()
    if schedule.num_steps is not None:
        u = ((u * schedule.num_steps).floor() + 1).clamp(max=schedule.num_steps)
        t = u / schedule.num_steps
    else:
        t = schedule.t_min + u * (1 - schedule.t_min)
    noise = torch.randn(len(t), *x.shape[1:], dtype=x.dtype, device=x.device)
    repeated, context = repeat(net, x, context, num_times)
    log_alpha, variance = marginal(schedule, t)
    alpha, sigma = log_alpha.exp(), variance**0.5
    x_t = net.spread(alpha) * repeated + net.spread(sigma) * noise
    found, _ = net.noise(x_t, t, alpha, sigma, context)
    error = ((noise - found) ** 2).flatten(1).mean(1) * error_weight(weight, alpha, sigma)
    return error.reshape(num_times, len(x)).mean(0)


def constants(net: Any, steps: Steps) -> Tensor:
    """What the losses of all steps (S,) would be if the network made no error."""
    log_variance = net.log_variance(steps, None).reshape(-1)
    clean = steps.small == 0
    small = torch.where(clean, 1.0, steps.small)
    own = small * torch.exp(-log_variance) - small.log() - 1
    return size_of(net.event_shape) * (log_variance + torch.where(clean, log(2 * pi), own)) / 2


def step_shares(steps: Steps) -> Tensor:
    """How often each step is taken, (S,): in proportion to what it changes gamma, the log ratio of
    noise and datum, as its part of the bound roughly is.
    """
    keep = (steps.large / steps.sigma**2).detach()
    clean = steps.small == 0
    change = -torch.log1p(-torch.where(clean, 0.5, keep))
    change = torch.where(clean, change[1:2].sum().clamp(min=1.0), change)
    return change / change.sum()


def spread_times(num_data: int, num_times: int, like: Tensor) -> Tensor:
    """Times in [0, 1), (num_times, num_data): each uniform, and all of them together evenly spread:
    one shift for all, those of a datum in strata.
    """
    shift = torch.rand((), dtype=like.dtype, device=like.device)
    place = torch.arange(num_data, dtype=like.dtype, device=like.device) / num_data
    strata = torch.arange(num_times, dtype=like.dtype, device=like.device)[:, None]
    return ((shift + place) % 1 + strata) / num_times


def repeat(net: Any, x: Tensor, context: Any, times: int) -> tuple[Tensor, Any]:
    """Data (N, *event) and their contexts, one behind the other several times."""
    x = x.expand(times, *x.shape)
    return x.flatten(0, 1), spread(context, net.context_shape, x.shape[:2])


def entries_sum(x: Tensor) -> Tensor:
    """The sum over all but the first dimension."""
    return x.flatten(1).sum(1)


def _path(net: Any, x: Tensor, steps: Steps) -> tuple[Tensor, Tensor, Tensor]:
    """One path x_0, ..., x_S up the chain: the noise of x_0, that of each x_t beyond alpha_t x, and
    that of each x_s beyond the posterior's mean given x_t and x: (N, *event) and (S, N, *event).
    """
    first = torch.randn_like(x)
    start = 0 * first if net.is_clean else steps.sigma_below[0] / steps.alpha_below[0] * first
    up = torch.randn(len(steps.t), *x.shape, dtype=x.dtype, device=x.device)
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
    beyond = torch.cat([start[None], start + (up_scale * up).cumsum(0)])  # (x_t / alpha_t) - x
    x_t = alpha * (x + beyond[1:])
    x_s = steps.alpha_below.reshape(alpha.shape) * (x + beyond[:-1])
    below = (x_s - data * x - noisy * x_t) / torch.where(small > 0, small, 1.0) ** 0.5
    return first, alpha * beyond[1:] / sigma, below


def step_loss(
    net: Any, x: Tensor, context: Any, steps: Steps, noise: Tensor, below: Tensor | None
) -> Tensor:
    """KL(q(x_s | x_t, x), p(x_s | x_t)) of each datum at its own step, or with the noise `below` of
    x_s the log-ratio there; where x_s is the datum, -log p(x | x_t).
    """
    x_t = net.spread(steps.alpha) * x + net.spread(steps.sigma) * noise
    found, raw = net.noise(x_t, steps.t, steps.alpha, steps.sigma, context)
    log_variance = net.log_variance(steps, raw)
    ratio = net.spread(steps.data * steps.sigma / steps.alpha)
    miss = ratio * (found - noise)  # of the mean, the posterior's minus the network's
    clean = net.spread(steps.small == 0)
    small = torch.where(clean, 1.0, net.spread(steps.small))
    if below is None:
        off = miss**2 + torch.where(clean, 0.0, small)
        rest = torch.where(clean, log(2 * pi), -small.log() - 1)
    else:
        off = (miss + torch.where(clean, 0.0, small**0.5 * below)) ** 2
        rest = torch.where(clean, log(2 * pi), -small.log() - below**2)
    losses = (log_variance + off * torch.exp(-log_variance) + rest) / 2
    if net.num_levels is not None and net.is_clean:
        coded = -bin_mass(x, x - miss, (log_variance / 2).exp(), net.num_levels)
        losses = torch.where(clean, coded, losses)
    return entries_sum(losses.expand(x.shape))


def prior_loss(net: Any, x: Tensor, alpha: Tensor, sigma: Tensor, noise: Tensor | None) -> Tensor:
    """KL(q(x_T | x), p(x_T)), or with the noise of x_T the log-ratio there."""
    a, s = net.spread(alpha), net.spread(sigma / net.schedule.prior_scale)
    a = a / net.schedule.prior_scale
    if noise is None:
        return entries_sum(s**2 - 1 + (a * x) ** 2 - 2 * s.log()) / 2
    return entries_sum((a * x + s * noise) ** 2 - noise**2 - 2 * s.log()) / 2


def decoder_loss(
    net: Any, x: Tensor, alpha: Tensor, sigma: Tensor, noise: Tensor, closed: bool
) -> Tensor:
    """-log p(x | x_0) of a datum with a little noise, x_0 = alpha x + sigma noise."""
    scale = net.spread(sigma / alpha)
    if net.num_levels is not None:
        return -entries_sum(bin_mass(x, x + scale * noise, scale, net.num_levels))
    square = torch.ones_like(noise) if closed else noise**2
    return entries_sum(log(2 * pi) + 2 * scale.log() + square) / 2


def bin_mass(x: Tensor, mean: Tensor, scale: Tensor, num_levels: int) -> Tensor:
    """log of the mass of Normal(mean, scale^2) between the middles around a level of [-1, 1], which
    reaches to infinity at both ends.
    """
    half = 1 / (num_levels - 1)
    low = torch.where(x < -1 + half, -inf, x - half)
    high = torch.where(x > 1 - half, inf, x + half)
    flip = x > mean
    far = 1e4 * scale  # in place of infinity, for gradients
    low, high = (low - mean).clamp(-far, far), (high - mean).clamp(-far, far)
    low, high = torch.where(flip, -high, low) / scale, torch.where(flip, -low, high) / scale
    upper = log_ndtr(high)
    return upper + torch.log(-torch.expm1((log_ndtr(low) - upper).clamp(max=-1e-30)))


def less_noisy(losses: Any, gamma: Tensor, rate: Tensor) -> Tensor:
    """Losses of which the schedule has the gradient of their squares, whose mean it can change;
    that of the losses themselves depends on the ends alone.
    """
    if not torch.is_grad_enabled():
        return losses(gamma, rate)
    fixed = gamma.detach().requires_grad_(), rate.detach().requires_grad_()
    found = losses(*fixed)
    slopes = torch.autograd.grad(found.sum(), fixed, retain_graph=True)
    surrogate = 2 * found.detach() * (slopes[0] * gamma + slopes[1] * rate)
    return found + (surrogate - surrogate.detach())
