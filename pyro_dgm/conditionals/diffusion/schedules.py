"""Schedules as tensors, and one that is learned."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import jvp

from dgm_core.arguments import check_count, check_number
from dgm_core.diffusion import NoiseSchedule, chain_steps
from dgm_core.diffusion_steps import Steps, steps_between
from pyro_dgm.nn.layers import softplus

__all__ = ["LearnedSchedule"]


class LearnedSchedule(nn.Module):
    """A monotone schedule that is trained (variational diffusion):  alpha^2 = sigmoid(-gamma(t)),
    sigma^2 = sigmoid(gamma(t)),  gamma rising from gamma_min at t = 0 to gamma_max at t = 1.

    gamma(t) = gamma_min + (gamma_max - gamma_min) (l(t) - l(0)) / (l(1) - l(0)),  l(t) = w t +
    sum_k v_k sigmoid(w_k (t - b_k)) with w, v_k, w_k above 0, at first nearly a line. In continuous
    time the bound depends on the ends alone, and training makes its estimate less noisy: gradients
    of the schedule are those of its square (Kingma et al. 2021, appendix I). With T steps it is the
    bound that they raise.

    Args:
        num_steps: T levels at t = i / T; None for continuous time.
        gamma_min, gamma_max: minus the log signal-to-noise ratio at both ends; at gamma_min a datum
            is decoded, x | x_0 ~ Normal(x_0 / alpha_0, (sigma_0 / alpha_0)^2).
        hidden: the number of terms k.

    Raises:
        ValueError: unless gamma_min < gamma_max.

    References:
        Kingma, Salimans, Poole & Ho (2021), Variational Diffusion Models, arXiv:2107.00630.

    Example:
        >>> LearnedSchedule(gamma_min=-8.0).gamma(torch.tensor([0.0, 1.0])).tolist()
        [-8.0, 6.0]
    """

    prior_scale = 1.0
    t_min = 0.0
    ode_power = 1.0
    table = None

    def __init__(
        self,
        num_steps: int | None = None,
        *,
        gamma_min: float = -10.0,
        gamma_max: float = 6.0,
        hidden: int = 32,
    ) -> None:
        super().__init__()
        self.num_steps = None if num_steps is None else check_count("num_steps", num_steps)
        self.gamma_min = check_number("gamma_min", gamma_min)
        self.gamma_max = check_number("gamma_max", gamma_max, above=self.gamma_min)
        hidden = check_count("hidden", hidden)
        self.slope = nn.Parameter(torch.tensor(0.5))
        self.sizes = nn.Parameter(torch.full((hidden,), -6.0))
        self.slopes = nn.Parameter(torch.full((hidden,), 10.0))
        self.places = nn.Parameter(torch.linspace(0.0, 1.0, hidden))

    def gamma(self, t: Tensor) -> Tensor:
        """log(sigma(t)^2 / alpha(t)^2)."""
        low, high = self._rising(torch.zeros_like(t)), self._rising(torch.ones_like(t))
        share = (self._rising(t) - low) / (high - low)
        return self.gamma_min + (self.gamma_max - self.gamma_min) * share

    def _rising(self, t: Tensor) -> Tensor:
        bends = torch.sigmoid(softplus(self.slopes) * (t[..., None] - self.places))
        return softplus(self.slope) * t + (softplus(self.sizes) * bends).sum(-1)

    def at(self, t: Tensor, xp: Any = None) -> tuple[Tensor, Tensor]:
        """log alpha(t) and sigma(t)^2."""
        return of_gamma(self.gamma(t))

    def rates(self, t: Tensor, xp: Any = None) -> tuple[Tensor, Tensor]:
        """The derivatives of log alpha and of sigma^2 in t."""
        return jvp(self.at, (t,), (torch.ones_like(t),))[1]

    def times(self, num_steps: int | None = None) -> Any:
        """The times of a chain of `num_steps` levels and of level 0."""
        return NoiseSchedule.times(self, num_steps)  # type: ignore[arg-type]

    def __repr__(self) -> str:
        steps = "" if self.num_steps is None else f"{self.num_steps}, "
        return f"LearnedSchedule({steps}gamma_min={self.gamma_min}, gamma_max={self.gamma_max})"


def of_gamma(gamma: Tensor) -> tuple[Tensor, Tensor]:
    """log alpha and sigma^2 of alpha^2 = sigmoid(-gamma), sigma^2 = sigmoid(gamma)."""
    return torch.nn.functional.logsigmoid(-gamma) / 2, torch.sigmoid(gamma)


def marginal(schedule: Any, t: Tensor) -> tuple[Tensor, Tensor]:
    """log alpha(t) and sigma(t)^2."""
    if schedule.table is None:
        return schedule.at(t, torch)
    table, below = _place(schedule, t)
    log_alpha = table[below] + _slope(table, below) * (t * schedule.num_steps - below)
    return log_alpha, -torch.expm1(2 * log_alpha)


def rates(schedule: Any, t: Tensor) -> tuple[Tensor, Tensor]:
    """The derivatives of log alpha and of sigma^2 in t."""
    if schedule.table is None:
        return schedule.rates(t, torch)
    slope = _slope(*_place(schedule, t)) * schedule.num_steps
    return slope, -2 * slope * torch.exp(2 * marginal(schedule, t)[0])


def _place(schedule: Any, t: Tensor) -> tuple[Tensor, Tensor]:
    """The table, and the level below t."""
    table = torch.as_tensor(schedule.table, dtype=t.dtype, device=t.device)
    return table, (t * schedule.num_steps).long().clamp(0, schedule.num_steps - 1)


def _slope(table: Tensor, below: Tensor) -> Tensor:
    return table[below + 1] - table[below]


def fixed_steps(schedule: Any, num_steps: int | None) -> Steps | None:
    """The steps of a chain as arrays of numpy; None where they are learned."""
    if not isinstance(schedule, NoiseSchedule):
        return None
    t = schedule.times(chain_steps(schedule.num_steps, num_steps))
    return steps_between(t, *schedule.at(t))


def steps_of(schedule: Any, num_steps: int | None, like: Tensor) -> Steps:
    """The steps of a chain as tensors in the precision of `like`."""
    if (fixed := fixed_steps(schedule, num_steps)) is not None:
        return Steps(*(torch.as_tensor(x, dtype=like.dtype, device=like.device) for x in fixed))
    t = schedule.times(chain_steps(schedule.num_steps, num_steps))
    t = torch.as_tensor(t, dtype=like.dtype, device=like.device)
    log_alpha, variance = schedule.at(t)
    return steps_between(t, log_alpha, variance, torch)
