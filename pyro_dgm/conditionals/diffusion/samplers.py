"""Draws from a diffusion, step by step."""

from typing import Any

import torch
from torch import Tensor

from dgm_core.diffusion_steps import Steps, ddim
from pyro_dgm.conditionals.diffusion.schedules import fixed_steps

__all__: list[str] = []  # for the package, not for users


def drawn(
    net: Any,
    noise: Any,
    x: Tensor,
    num_steps: int,
    method: str,
    eta: float,
    known: tuple[Tensor, Tensor] | None,
) -> Tensor:
    """Draws (N, *event) from noise x at the last level.

    Ancestral: Normal(data x^ + noisy x_t, variance), without noise in the last step where that
    ends at a datum; DDIM: alpha_s x^ + direction eps^ + deviation noise.
    """
    steps, fixed = net.steps(num_steps, x), fixed_steps(net.schedule, num_steps)
    # Of a fixed schedule numbers of Python: operations with these are faster than with tensors.
    own = fixed or steps
    direction, scale = ddim(own, eta)
    keep = own.alpha_below if method == "ddim" else own.data
    of_x = keep / own.alpha + (0.0 if method == "ddim" else own.noisy)
    of_noise = (direction if method == "ddim" else 0.0) - keep * own.sigma / own.alpha
    if method == "ancestral":
        scale = deviations(net, steps, fixed)
    each = [*zip(*map(unbound, (own.alpha, own.sigma, of_x, of_noise)))]
    below = [*zip(*map(unbound, (own.alpha_below, own.sigma_below)))]
    scales = None if scale is None else unbound(scale)
    times = (steps.t if net.scaled else steps.t[:, None].expand(-1, len(x))).unbind()
    for index in range(len(times) - 1, -1, -1):
        alpha, sigma, factor, along = each[index]
        found, raw = noise(x, times[index], alpha, sigma)
        if net.num_levels is not None:
            data = ((x - sigma * found) / alpha).clamp(-1, 1)
            found = (x - alpha * data) / sigma
        x = plus(factor * x, along, found)
        last = index == 0 and net.is_clean
        if not last and not (method == "ddim" and not eta):
            spread = learned_scale(net, steps, index, raw) if scales is None else scales[index]
            x = plus(x, spread, torch.randn_like(x))
        if known is not None:
            (value, mask), (alpha, sigma) = known, below[index]
            x = torch.where(mask, alpha * value + sigma * torch.randn_like(x), x)
    return x if net.is_clean else x / steps.alpha_below[0]


def deviations(net: Any, steps: Steps, fixed: Steps | None) -> Any:
    """The standard deviations of all steps; None where the network says them."""
    if net.variance == "learned":
        return None
    if fixed is not None and net.variance in ("small", "large"):
        return (fixed.floor if net.variance == "small" else fixed.large) ** 0.5
    return (net.log_variance(steps, None) / 2).exp()


def learned_scale(net: Any, steps: Steps, index: int, raw: Any) -> Tensor:
    """The standard deviation of a step of which the network says something."""
    own = Steps(*(part[index : index + 1] for part in steps))
    return (net.log_variance(own, raw) / 2).exp()


def plus(x: Tensor, factor: Any, y: Tensor) -> Tensor:
    """x + factor y, with a number in one operation."""
    return torch.add(x, y, alpha=factor) if isinstance(factor, float) else x + factor * y


def unbound(x: Any) -> list[Any]:
    """The entries of an array, as numbers of Python, or of a tensor."""
    return [*x.unbind()] if isinstance(x, Tensor) else x.tolist()
