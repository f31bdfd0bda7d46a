"""Draws from a diffusion, step by step."""

from typing import Any

import torch
from torch import Tensor

from dgm_core.diffusion_steps import Steps, ddim

__all__: list[str] = []  # for the package, not for users


def drawn(
    net: Any,
    noise: Any,
    x: Tensor,
    steps: Steps,
    method: str,
    eta: float,
    known: tuple[Tensor, Tensor] | None,
) -> Tensor:
    """Draws (N, *event) from noise x at the last level.

    Ancestral: Normal(data x^ + noisy x_t, variance), without noise in the last step where that
    ends at a datum; DDIM: alpha_s x^ + direction eps^ + deviation noise.
    """
    direction, deviation = ddim(steps, eta)
    for index in range(len(steps.t) - 1, -1, -1):
        step = Steps(*(part[index].expand(len(x)) for part in steps))
        found, raw = noise(x, step.t, step.alpha, step.sigma)
        data = (x - steps.sigma[index] * found) / steps.alpha[index]
        if net.num_levels is not None:
            data = data.clamp(-1, 1)
            found = (x - steps.alpha[index] * data) / steps.sigma[index]
        last = index == 0 and net.is_clean
        if method == "ddim":
            mean = steps.alpha_below[index] * data + direction[index] * found
            scale = deviation[index]
        else:
            mean = steps.data[index] * data + steps.noisy[index] * x
            scale = (net.log_variance(step, raw) / 2).exp()
        x = mean if last or (method == "ddim" and not eta) else mean + scale * torch.randn_like(x)
        if known is not None:
            value, mask = known
            seen = steps.alpha_below[index] * value
            x = torch.where(mask, seen + steps.sigma_below[index] * torch.randn_like(x), x)
    return x if net.is_clean else x / steps.alpha_below[0]
