"""Schedules of diffusions: how much of a datum and how much noise there is at each time.

    x_t = alpha(t) x + sigma(t) eps,  eps ~ Normal(0, I),  t in [0, 1];  level i of T is t = i / T.

alpha falls and sigma / alpha rises. A schedule takes the functions of the library at hand (`np`,
`torch`, `jax.numpy`), so that one class serves both.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dgm_core.arguments import check_count, check_number
from dgm_core.terms import written

__all__ = [
    "VE",
    "VP",
    "Cosine",
    "Linear",
    "NoiseSchedule",
    "SubVP",
]


class NoiseSchedule:
    """The base of schedules.

    A subclass writes `at(t, xp)`, which gives log alpha(t) and sigma(t)^2, `rates(t, xp)`, their
    derivatives, and where it may be used without steps `time_of(gamma, xp)`, the time at which
    gamma = log(sigma^2 / alpha^2).

    Attributes:
        num_steps: T, the levels of the chain; None for continuous time.
        prior_scale: the standard deviation of the noise that a diffusion ends as.
        t_min: where continuous time begins.
        ode_power: the steps of its flow are even in t^(1 / ode_power).
        table: log alpha at all levels, linear in between, where that is how it is defined.

    Example:
        >>> schedule = VP(10)
        >>> log_alpha, variance = schedule.levels()
        >>> variance.shape, float(np.exp(2 * log_alpha[3]).round(7))
        ((11,), 0.3963332)
    """

    prior_scale: float = 1.0
    t_min: float = 0.0
    ode_power: float = 2.0
    table: np.ndarray | None = None

    def __init__(self, num_steps: int | None) -> None:
        self.num_steps = None if num_steps is None else check_count("num_steps", num_steps)

    def at(self, t: Any, xp: Any = np) -> tuple[Any, Any]:
        """log alpha(t) and sigma(t)^2."""
        raise NotImplementedError

    def rates(self, t: Any, xp: Any = np) -> tuple[Any, Any]:
        """The derivatives of log alpha and of sigma^2 in t."""
        raise NotImplementedError

    def time_of(self, gamma: Any, xp: Any = np) -> Any:
        """The time at which log(sigma^2 / alpha^2) is gamma."""
        raise NotImplementedError

    def levels(self, num_steps: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """log alpha and sigma^2 at the levels 0, ..., T, in double precision."""
        return self.at(self.times(num_steps))

    def times(self, num_steps: int | None = None) -> np.ndarray:
        """The times of a chain of `num_steps` levels and of level 0: all T, or some of them."""
        steps = chain_steps(self.num_steps, num_steps)
        if self.num_steps is None:
            return np.linspace(0.0, 1.0, steps + 1)
        return np.round(np.linspace(0, self.num_steps, steps + 1)) / self.num_steps

    def _key(self) -> tuple[Any, ...]:
        own = {k: v for k, v in vars(self).items() if not isinstance(v, np.ndarray)}
        return (type(self), *sorted(own.items(), key=str))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NoiseSchedule) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())


class _Table(NoiseSchedule):
    """A schedule of T levels; between them log alpha is linear in t."""

    num_steps: int
    table: np.ndarray

    def __init__(self, betas: np.ndarray) -> None:
        super().__init__(len(betas))
        self.table = np.concatenate([[0.0], np.cumsum(np.log1p(-betas)) / 2])

    def at(self, t: Any, xp: Any = np) -> tuple[Any, Any]:
        """log alpha(t) and sigma(t)^2."""
        below, index = self._place(t)
        slope = np.diff(self.table)
        log_alpha = self.table[index] + slope[index] * (np.asarray(t) * self.num_steps - below)
        return log_alpha, -np.expm1(2 * log_alpha)

    def _place(self, t: Any) -> tuple[Any, Any]:
        below = np.clip(np.floor(np.asarray(t) * self.num_steps + 1e-9), 0, self.num_steps - 1)
        return below, below.astype(int)

    @property
    def betas(self) -> np.ndarray:
        """beta_t = 1 - alpha_t^2 / alpha_{t-1}^2, t = 1, ..., T."""
        return -np.expm1(2 * np.diff(self.table))


class Linear(_Table):
    """beta_t linear from beta_min to beta_max, alpha_t^2 = prod_{s <= t} (1 - beta_s).

    Args:
        num_steps: T.
        beta_min, beta_max: of a chain of 1,000 steps; with T steps each is 1000 / T times that, so
            that the noise at the end is nearly the same.

    Raises:
        ValueError: unless 0 < beta_min <= beta_max, and for so few steps that a beta would reach
            1: take `VP(T)` there, or a shorter chain of a longer schedule.

    References:
        Ho, Jain & Abbeel (2020), arXiv:2006.11239.

    Example:
        >>> Linear(1000).betas[[0, -1]].round(6)
        array([0.0001, 0.02  ])
        >>> Linear(100).betas[[0, -1]].round(6)
        array([0.001, 0.2  ])
    """

    def __init__(
        self, num_steps: int = 1000, *, beta_min: float = 1e-4, beta_max: float = 0.02
    ) -> None:
        num_steps = check_count("num_steps", num_steps)
        self.beta_min, self.beta_max = check_betas(beta_min, beta_max)
        scale = 1000 / num_steps
        if scale * self.beta_max >= 1:
            raise ValueError(
                f"Linear({num_steps}) would have a beta of {scale * self.beta_max:g}, {scale:g} "
                f"times that of 1,000 steps, and all must be below 1: use VP({num_steps}), or a "
                f"chain of {num_steps} of the steps of Linear(1000)."
            )
        super().__init__(scale * np.linspace(self.beta_min, self.beta_max, num_steps))

    def __repr__(self) -> str:
        return _written(self, beta_min=1e-4, beta_max=0.02)


class Cosine(_Table):
    """alpha_t^2 = f(t / T) / f(0),  f(u) = cos((u + s) / (1 + s) pi / 2)^2,  where beta_t is at
    most 0.999.

    Args:
        num_steps: T.
        offset: s.

    Raises:
        ValueError: for T below 1, and an offset that is not positive.

    References:
        Nichol & Dhariwal (2021), arXiv:2102.09672, equation 17.

    Example:
        >>> float(np.exp(2 * Cosine(1000).levels()[0][500]).round(6))
        0.493844
    """

    def __init__(self, num_steps: int = 1000, *, offset: float = 0.008) -> None:
        num_steps = check_count("num_steps", num_steps)
        self.offset = check_number("offset", offset, above=0)
        u = np.linspace(0, 1, num_steps + 1)
        f = np.cos((u + self.offset) / (1 + self.offset) * math.pi / 2) ** 2
        super().__init__(np.clip(1 - f[1:] / f[:-1], None, 0.999))

    def __repr__(self) -> str:
        return _written(self, offset=0.008)


class VP(NoiseSchedule):
    """Variance preserving:  alpha(t)^2 = exp(-B(t)),  sigma^2 = 1 - alpha^2,
    B(t) = beta_min t + (beta_max - beta_min) t^2 / 2.

    Args:
        num_steps: T levels at t = i / T; None for continuous time.
        beta_min, beta_max: the rate of noise at both ends.
        t_min: where continuous time begins: its bound has a decoder there.

    Raises:
        ValueError: unless 0 < beta_min <= beta_max, for T below 1 and t_min outside (0, 1).

    References:
        Song et al. (2021), arXiv:2011.13456; the limit of Ho et al. (2020).

    Example:
        >>> float(VP().at(0.3)[1].round(7))
        0.6036668
    """

    def __init__(
        self,
        num_steps: int | None = None,
        *,
        beta_min: float = 0.1,
        beta_max: float = 20.0,
        t_min: float = 1e-5,
    ) -> None:
        super().__init__(num_steps)
        self.beta_min, self.beta_max = check_betas(beta_min, beta_max)
        self.t_min = check_number("t_min", t_min, above=0, below=1)

    def at(self, t: Any, xp: Any = np) -> tuple[Any, Any]:
        """log alpha(t) and sigma(t)^2."""
        b = self._b(t)
        return -b / 2, -xp.expm1(-b)

    def rates(self, t: Any, xp: Any = np) -> tuple[Any, Any]:
        """The derivatives of log alpha and of sigma^2 in t."""
        beta = self.beta_min + (self.beta_max - self.beta_min) * t
        return -beta / 2, beta * xp.exp(-self._b(t))

    def time_of(self, gamma: Any, xp: Any = np) -> Any:
        """The time at which log(sigma^2 / alpha^2) is gamma."""
        return self._time(xp.logaddexp(gamma, gamma * 0))

    def _b(self, t: Any) -> Any:
        return self.beta_min * t + (self.beta_max - self.beta_min) / 2 * t * t

    def _time(self, b: Any) -> Any:
        """Where B(t) = b."""
        root = (self.beta_min**2 + 2 * (self.beta_max - self.beta_min) * b) ** 0.5
        return 2 * b / (self.beta_min + root)

    def __repr__(self) -> str:
        return _written(self, beta_min=0.1, beta_max=20.0, t_min=1e-5)


class SubVP(VP):
    """Variance below that of VP:  alpha(t)^2 = exp(-B(t)),  sigma(t) = 1 - alpha(t)^2.

    Args:
        num_steps, beta_min, beta_max, t_min: as of VP.

    Raises:
        ValueError: as VP.

    References:
        Song et al. (2021), arXiv:2011.13456, equation 29.

    Example:
        >>> float(SubVP().at(0.3)[1].round(7))
        0.3644136
    """

    def at(self, t: Any, xp: Any = np) -> tuple[Any, Any]:
        """log alpha(t) and sigma(t)^2."""
        b = self._b(t)
        return -b / 2, xp.expm1(-b) ** 2

    def rates(self, t: Any, xp: Any = np) -> tuple[Any, Any]:
        """The derivatives of log alpha and of sigma^2 in t."""
        b = self._b(t)
        beta = self.beta_min + (self.beta_max - self.beta_min) * t
        return -beta / 2, -2 * xp.expm1(-b) * beta * xp.exp(-b)

    def time_of(self, gamma: Any, xp: Any = np) -> Any:
        """The time at which log(sigma^2 / alpha^2) is gamma."""
        return self._time(2 * xp.arcsinh(xp.exp(gamma / 2) / 2))


class VE(NoiseSchedule):
    """Variance exploding:  alpha = 1,  sigma(t)^2 = sigma_min^2 ((sigma_max / sigma_min)^(2t) - 1).

    The variance that the noise of Song et al. has added to a datum until t; the diffusion ends as
    Normal(0, sigma(1)^2 I).

    Args:
        num_steps: T levels at t = i / T; None for continuous time.
        sigma_min, sigma_max: the scales of the noise; the largest is to be some times the spread of
            the data.
        t_min: where continuous time begins.

    Raises:
        ValueError: unless 0 < sigma_min < sigma_max, for T below 1 and t_min outside (0, 1).

    References:
        Song et al. (2021), arXiv:2011.13456, equation 29.

    Example:
        >>> round(VE(sigma_max=10.0).prior_scale, 6)
        9.999995
    """

    ode_power = 1.0  # the noise grows exponentially

    def __init__(
        self,
        num_steps: int | None = None,
        *,
        sigma_min: float = 0.01,
        sigma_max: float = 50.0,
        t_min: float = 1e-5,
    ) -> None:
        super().__init__(num_steps)
        self.sigma_min = check_number("sigma_min", sigma_min, above=0)
        self.sigma_max = check_number("sigma_max", sigma_max, above=self.sigma_min)
        self.t_min = check_number("t_min", t_min, above=0, below=1)
        self.prior_scale = math.sqrt(self.at(1.0)[1])

    @property
    def _growth(self) -> float:
        return 2 * math.log(self.sigma_max / self.sigma_min)

    def at(self, t: Any, xp: Any = np) -> tuple[Any, Any]:
        """log alpha(t) and sigma(t)^2."""
        return 0 * t, self.sigma_min**2 * xp.expm1(self._growth * t)

    def rates(self, t: Any, xp: Any = np) -> tuple[Any, Any]:
        """The derivatives of log alpha and of sigma^2 in t."""
        return 0 * t, self.sigma_min**2 * self._growth * xp.exp(self._growth * t)

    def time_of(self, gamma: Any, xp: Any = np) -> Any:
        """The time at which log(sigma^2 / alpha^2) is gamma."""
        return xp.log1p(xp.exp(gamma) / self.sigma_min**2) / self._growth

    def __repr__(self) -> str:
        return _written(self, sigma_min=0.01, sigma_max=50.0, t_min=1e-5)


def check_betas(beta_min: Any, beta_max: Any) -> tuple[float, float]:
    """The first and last rate of noise, 0 < beta_min <= beta_max.

    Example:
        >>> check_betas(0.1, 20)
        (0.1, 20.0)
    """
    low = check_number("beta_min", beta_min, above=0)
    return low, check_number("beta_max", beta_max, least=low)


def chain_steps(own: int | None, wanted: int | None) -> int:
    """The steps of a chain: those of the schedule, or fewer.

    Example:
        >>> chain_steps(1000, None), chain_steps(1000, 20), chain_steps(None, 20)
        (1000, 20, 20)
        >>> chain_steps(10, 20)
        Traceback (most recent call last):
        ValueError: num_steps must be an integer from 1 to 10, got 20.
    """
    if wanted is None:
        if own is None:
            raise ValueError(
                "A schedule in continuous time has no steps: say how many, num_steps=100, or give "
                "the schedule some, as in VP(1000)."
            )
        return own
    return check_count("num_steps", wanted, 1, own)


def _written(made: NoiseSchedule, **defaults: float) -> str:
    first = () if made.num_steps is None else (str(made.num_steps),)
    return written(made, *first, **defaults)
