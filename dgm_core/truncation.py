"""The truncation trick: latent vectors of a generator from the middle of a standard normal prior,
which gives typical draws and fewer kinds of them.
"""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from scipy.stats import norm

from dgm_core.arguments import check_floats, check_number

__all__ = ["truncated", "truncated_sd"]


def truncated(z: Any, bound: float) -> NDArray[np.float64]:
    """Standard normal draws moved into [-bound, bound], quantile by quantile: draws of the normal
    distribution truncated there, z_i -> F_b^-1(F(z_i)).

    Their order stays, so that a sweep over bounds shows one image at several of them.

    Args:
        z: an array of standard normal draws.
        bound: of the absolute value of each entry.

    Raises:
        ValueError: for a bound that is not positive, and draws that are not finite.

    References:
        Brock, Donahue and Simonyan (2019), arXiv:1809.11096, section 3.1.

    Example:
        >>> truncated([-8.0, 0.0, 8.0], 0.5).round(4).tolist()
        [-0.5, 0.0, 0.5]
    """
    bound, z = check_number("bound", bound, above=0), check_floats("z", z)
    lowest = ndtr(-bound)
    return np.clip(ndtri(lowest + ndtr(z) * (1 - 2 * lowest)), -bound, bound)


def truncated_sd(bound: float) -> float:
    """The standard deviation of an entry: sqrt(1 - 2 b phi(b) / (2 Phi(b) - 1)).

    Example:
        >>> round(truncated_sd(0.5), 8)
        0.28388229
    """
    bound = check_number("bound", bound, above=0)
    return sqrt(1 - 2 * bound * norm.pdf(bound) / (2 * norm.cdf(bound) - 1))
