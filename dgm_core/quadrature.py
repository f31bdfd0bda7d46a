"""Rules for integrals over the unit interval."""

from __future__ import annotations

from functools import cache

import numpy as np

__all__: list[str] = []  # for the package, not for users


@cache
def double_exponential(steps: int = 96, end: float = 3.6) -> tuple[np.ndarray, np.ndarray]:
    """log u_i and weights w_i with integral_0^1 f(u) du = sum_i w_i f(u_i), to rounding for f that
    are analytic inside, logarithms and powers at both ends among them (Takahasi and Mori 1974).

    Example:
        >>> log_u, weights = double_exponential()
        >>> round(float((weights * log_u).sum()), 12)  # of log u
        -1.0
    """
    t, step = np.linspace(-end, end, steps + 1, retstep=True)
    s = np.pi * np.sinh(t)
    log_u, log_rest = -np.logaddexp(0, -s), -np.logaddexp(0, s)
    return log_u, step * np.pi * np.cosh(t) * np.exp(log_u + log_rest)
