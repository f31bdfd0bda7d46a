"""Special functions in forms that difference no large numbers, so that single precision is enough.

With binet(x) = log Gamma(x) - (x - 1/2) log x + x - log(2 pi) / 2, which falls like 1 / (12 x),

    log B(a, b) = -a log(1 + b/a) - b log(1 + a/b) - log(a b / (a + b)) / 2 + log(2 pi) / 2
                  + binet(a) + binet(b) - binet(a + b),

where log Gamma(a) + log Gamma(b) - log Gamma(a + b) loses all digits from a = 1e6 on.
"""

from math import log, pi

import torch
from torch import Tensor

_BINET = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156)
_DIGAMMA = (1 / 12, -1 / 120, 1 / 252, -1 / 240, 1 / 132, -691 / 32760, 1 / 12)


def series(x: Tensor, coefficients: tuple[float, ...]) -> Tensor:
    """The sum of coefficients[k] x^k.

    Example:
        >>> series(torch.tensor(2.0), (1.0, 1.0, 3.0))
        tensor(15.)
    """
    total = torch.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        total = coefficient + x * total
    return total


def log1mexp(x: Tensor) -> Tensor:
    """log(1 - exp(-x)) for x > 0.

    Example:
        >>> log1mexp(torch.tensor(20.0))
        tensor(-2.0612e-09)
    """
    small = x < log(2)
    low, high = torch.where(small, x, 1.0), torch.where(small, 1.0, x)
    return torch.where(small, torch.log(-torch.expm1(-low)), torch.log1p(-torch.exp(-high)))


def log1p_gap(x: Tensor) -> Tensor:
    """x - log(1 + x) for abs(x) < 0.3, by the series of artanh in r = x / (2 + x).

    Example:
        >>> log1p_gap(torch.tensor(1e-4))
        tensor(4.9997e-09)
    """
    r = x / (2 + x)
    return r * x - 2 * r**3 * series(r**2, tuple(1 / (2 * k + 3) for k in range(11)))


def binet(x: Tensor) -> Tensor:
    """log Gamma(x) - (x - 1/2) log x + x - log(2 pi) / 2 for x > 0.

    Example:
        >>> binet(torch.tensor(100.0))
        tensor(0.0008)
    """
    far = x > 10
    low, high = torch.where(far, 1.0, x), torch.where(far, x, x + 8)
    steps = sum(
        (low + k + 0.5) * torch.log1p(1 / (low + k)) - 1 for k in range(8)
    )  # of binet(x) - binet(x + 8)
    return series(high**-2, _BINET) / high + torch.where(far, 0.0, steps)


def digamma_gap(x: Tensor) -> Tensor:
    """log x - digamma(x) for x > 0, which falls like 1 / (2 x).

    Example:
        >>> digamma_gap(torch.tensor(100.0))
        tensor(0.0050)
    """
    far = x > 10
    low, high = torch.where(far, 1.0, x), torch.where(far, x, 10.0)
    exact = low.log() - torch.digamma(low)
    return torch.where(far, 0.5 / high + high**-2 * series(high**-2, _DIGAMMA), exact)


def log_beta(a: Tensor, b: Tensor) -> Tensor:
    """log B(a, b) for a, b > 0.

    Example:
        >>> log_beta(torch.tensor(1e7), torch.tensor(0.5))
        tensor(-7.4867)
    """
    rest = binet(a) + binet(b) - binet(a + b) + 0.5 * log(2 * pi)
    logs = a.log() - torch.log1p(a / b)  # of a b / (a + b)
    return rest - a * torch.log1p(b / a) - b * torch.log1p(a / b) - 0.5 * logs


def sech_squared(x: Tensor) -> Tensor:
    """1 - tanh(x)^2.

    Example:
        >>> sech_squared(torch.tensor(20.0))
        tensor(1.6993e-17)
    """
    return 4 * torch.sigmoid(2 * x) * torch.sigmoid(-2 * x)
