"""Progressive distillation: a student that makes one step of DDIM where its teacher makes two."""

from typing import Any

import torch
from torch import Tensor

from dgm_core.diffusion_steps import Steps, error_weight
from pyro_dgm.conditionals.diffusion.bound import repeat, spread_times

__all__: list[str] = []  # for the package, not for users


def distillation_error(
    net: Any,
    teacher: Any,
    x: Tensor,
    context: Any,
    num_steps: int,
    weight: str,
    num_times: int,
) -> Tensor:
    """The weighted error of a student at random steps of its chain, (N,), x (N, *event)."""
    times = spread_times(len(x), num_times, x).flatten()
    index = (times * num_steps).long().clamp(max=num_steps - 1)
    noise = torch.randn(len(index), *x.shape[1:], dtype=x.dtype, device=x.device)
    repeated, context = repeat(net, x, context, num_times)
    error = errors_at(net, teacher, repeated, context, num_steps, index, noise)
    steps = net.steps(num_steps, x).at(index)
    error = error * error_weight(weight, steps.alpha, steps.sigma)
    return error.reshape(num_times, len(x)).mean(0)


def errors_at(
    net: Any,
    teacher: Any,
    x: Tensor,
    context: Any,
    num_steps: int,
    index: Tensor,
    noise: Tensor,
) -> Tensor:
    """|eps^ - eps~|^2 / D of each datum at its own step, (N,): eps~ is the noise with which the
    student's step from x_t ends where two of the teacher do.
    """
    own, halves = net.steps(num_steps, x).at(index), teacher.steps(2 * num_steps, x)
    x_t = net.spread(own.alpha) * x + net.spread(own.sigma) * noise
    below = x_t.detach()
    with torch.no_grad():
        for half in (1, 0):
            below = _moved(teacher, below, halves.at(2 * index + half), context)
    alpha, sigma, alpha_below, sigma_below = map(
        net.spread, (own.alpha, own.sigma, own.alpha_below, own.sigma_below)
    )
    wanted = (alpha_below * x_t - alpha * below) / (alpha_below * sigma - alpha * sigma_below)
    found, _ = net.noise(x_t, own.t, own.alpha, own.sigma, context)
    return ((found - wanted.detach()) ** 2).flatten(1).mean(1)


def _moved(net: Any, x: Tensor, step: Steps, context: Any) -> Tensor:
    """Where a step of DDIM ends, each row's own."""
    alpha, sigma, alpha_below, sigma_below = map(
        net.spread, (step.alpha, step.sigma, step.alpha_below, step.sigma_below)
    )
    found, _ = net.noise(x, step.t, step.alpha, step.sigma, context)
    data = (x - sigma * found) / alpha
    if net.num_levels is not None:
        data = data.clamp(-1, 1)
        found = (x - alpha * data) / sigma
    return alpha_below * data + sigma_below * found
