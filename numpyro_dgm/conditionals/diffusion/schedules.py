"""Schedules as tensors, and one that is learned."""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

from dgm_core.arguments import check_count, check_number
from dgm_core.diffusion import NoiseSchedule, chain_steps
from dgm_core.diffusion_steps import Steps, steps_between

__all__ = ["LearnedSchedule"]


class LearnedSchedule(eqx.Module):
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
        >>> LearnedSchedule(gamma_min=-8.0).gamma(jnp.array([0.0, 1.0])).tolist()
        [-8.0, 6.0]
    """

    prior_scale: ClassVar[float] = 1.0
    t_min: ClassVar[float] = 0.0
    ode_power: ClassVar[float] = 1.0
    table: ClassVar[None] = None
    num_steps: int | None = eqx.field(static=True)
    gamma_min: float = eqx.field(static=True)
    gamma_max: float = eqx.field(static=True)
    slope: Array
    sizes: Array
    slopes: Array
    places: Array

    def __init__(
        self,
        num_steps: int | None = None,
        *,
        gamma_min: float = -10.0,
        gamma_max: float = 6.0,
        hidden: int = 32,
    ) -> None:
        self.num_steps = None if num_steps is None else check_count("num_steps", num_steps)
        self.gamma_min = check_number("gamma_min", gamma_min)
        self.gamma_max = check_number("gamma_max", gamma_max, above=self.gamma_min)
        hidden = check_count("hidden", hidden)
        self.slope = jnp.array(0.5)
        self.sizes = jnp.full((hidden,), -6.0)
        self.slopes = jnp.full((hidden,), 10.0)
        self.places = jnp.linspace(0.0, 1.0, hidden)

    def gamma(self, t: Array) -> Array:
        """log(sigma(t)^2 / alpha(t)^2)."""
        low, high = self._rising(jnp.zeros_like(t)), self._rising(jnp.ones_like(t))
        share = (self._rising(t) - low) / (high - low)
        return self.gamma_min + (self.gamma_max - self.gamma_min) * share

    def _rising(self, t: Array) -> Array:
        bends = jax.nn.sigmoid(jax.nn.softplus(self.slopes) * (t[..., None] - self.places))
        return jax.nn.softplus(self.slope) * t + (jax.nn.softplus(self.sizes) * bends).sum(-1)

    def at(self, t: Array, xp: Any = None) -> tuple[Array, Array]:
        """log alpha(t) and sigma(t)^2."""
        return of_gamma(self.gamma(t))

    def rates(self, t: Array, xp: Any = None) -> tuple[Array, Array]:
        """The derivatives of log alpha and of sigma^2 in t."""
        return jax.jvp(self.at, (t,), (jnp.ones_like(t),))[1]

    def times(self, num_steps: int | None = None) -> Any:
        """The times of a chain of `num_steps` levels and of level 0."""
        return NoiseSchedule.times(self, num_steps)  # type: ignore[arg-type]

    def __repr__(self) -> str:
        steps = "" if self.num_steps is None else f"{self.num_steps}, "
        return f"LearnedSchedule({steps}gamma_min={self.gamma_min}, gamma_max={self.gamma_max})"


def of_gamma(gamma: Array) -> tuple[Array, Array]:
    """log alpha and sigma^2 of alpha^2 = sigmoid(-gamma), sigma^2 = sigmoid(gamma)."""
    return jax.nn.log_sigmoid(-gamma) / 2, jax.nn.sigmoid(gamma)


def marginal(schedule: Any, t: Array) -> tuple[Array, Array]:
    """log alpha(t) and sigma(t)^2."""
    if schedule.table is None:
        return schedule.at(t, jnp)
    table, below = _place(schedule, t)
    log_alpha = table[below] + _slope(table, below) * (t * schedule.num_steps - below)
    return log_alpha, -jnp.expm1(2 * log_alpha)


def rates(schedule: Any, t: Array) -> tuple[Array, Array]:
    """The derivatives of log alpha and of sigma^2 in t."""
    if schedule.table is None:
        return schedule.rates(t, jnp)
    slope = _slope(*_place(schedule, t)) * schedule.num_steps
    return slope, -2 * slope * jnp.exp(2 * marginal(schedule, t)[0])


def _place(schedule: Any, t: Array) -> tuple[Array, Array]:
    """The table, and the level below t."""
    table = jnp.asarray(schedule.table, t.dtype)
    return table, (t * schedule.num_steps).astype(int).clip(0, schedule.num_steps - 1)


def _slope(table: Array, below: Array) -> Array:
    return table[below + 1] - table[below]


def steps_of(schedule: Any, num_steps: int | None, like: Array) -> Steps:
    """The steps of a chain as tensors in the precision of `like`."""
    t = schedule.times(chain_steps(schedule.num_steps, num_steps))
    if isinstance(schedule, NoiseSchedule):
        found = steps_between(t, *schedule.at(t))
        return Steps(*(jnp.asarray(x, like.dtype) for x in found))
    t = jnp.asarray(t, like.dtype)
    log_alpha, variance = schedule.at(t)
    return steps_between(t, log_alpha, variance, jnp)
