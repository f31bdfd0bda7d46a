"""Special functions in forms that difference no large numbers, so that single precision is enough.

With binet(x) = log Gamma(x) - (x - 1/2) log x + x - log(2 pi) / 2, which falls like 1 / (12 x),

    log B(a, b) = -a log(1 + b/a) - b log(1 + a/b) - log(a b / (a + b)) / 2 + log(2 pi) / 2
                  + binet(a) + binet(b) - binet(a + b),

where log Gamma(a) + log Gamma(b) - log Gamma(a + b) loses all digits from a = 1e6 on.
"""

from math import log, pi

import jax.numpy as jnp
from jax import Array
from jax.lax import digamma
from jax.nn import sigmoid

_BINET = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156)
_DIGAMMA = (1 / 12, -1 / 120, 1 / 252, -1 / 240, 1 / 132, -691 / 32760, 1 / 12)


def series(x: Array, coefficients: tuple[float, ...]) -> Array:
    """The sum of coefficients[k] x^k.

    Example:
        >>> series(jnp.array(2.0), (1.0, 1.0, 3.0))
        Array(15., dtype=float32...)
    """
    total = jnp.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        total = coefficient + x * total
    return total


def log1mexp(x: Array) -> Array:
    """log(1 - exp(-x)) for x > 0.

    Example:
        >>> log1mexp(jnp.array(20.0))
        Array(-2.06115...e-09, dtype=float32...)
    """
    small = x < log(2)
    low, high = jnp.where(small, x, 1.0), jnp.where(small, 1.0, x)
    return jnp.where(small, jnp.log(-jnp.expm1(-low)), jnp.log1p(-jnp.exp(-high)))


def log1p_gap(x: Array) -> Array:
    """x - log(1 + x) for abs(x) < 0.3, by the series of artanh in r = x / (2 + x).

    Example:
        >>> log1p_gap(jnp.array(1e-4))
        Array(4.9996...e-09, dtype=float32...)
    """
    r = x / (2 + x)
    return r * x - 2 * r**3 * series(r**2, tuple(1 / (2 * k + 3) for k in range(11)))


def binet(x: Array) -> Array:
    """log Gamma(x) - (x - 1/2) log x + x - log(2 pi) / 2 for x > 0.

    Example:
        >>> binet(jnp.array(100.0))
        Array(0.00083..., dtype=float32...)
    """
    far = x > 10
    low, high = jnp.where(far, 1.0, x), jnp.where(far, x, x + 8)
    steps = sum(
        (low + k + 0.5) * jnp.log1p(1 / (low + k)) - 1 for k in range(8)
    )  # of binet(x) - binet(x + 8)
    return series(high**-2, _BINET) / high + jnp.where(far, 0.0, steps)


def digamma_gap(x: Array) -> Array:
    """log x - digamma(x) for x > 0, which falls like 1 / (2 x).

    Example:
        >>> digamma_gap(jnp.array(100.0))
        Array(0.00500..., dtype=float32...)
    """
    far = x > 10
    low, high = jnp.where(far, 1.0, x), jnp.where(far, x, 10.0)
    exact = jnp.log(low) - digamma(low)
    return jnp.where(far, 0.5 / high + high**-2 * series(high**-2, _DIGAMMA), exact)


def log_beta(a: Array, b: Array) -> Array:
    """log B(a, b) for a, b > 0.

    Example:
        >>> log_beta(jnp.array(1e7), jnp.array(0.5))
        Array(-7.486..., dtype=float32...)
    """
    rest = binet(a) + binet(b) - binet(a + b) + 0.5 * log(2 * pi)
    logs = jnp.log(a) - jnp.log1p(a / b)  # of a b / (a + b)
    return rest - a * jnp.log1p(b / a) - b * jnp.log1p(a / b) - 0.5 * logs


def sech_squared(x: Array) -> Array:
    """1 - tanh(x)^2.

    Example:
        >>> sech_squared(jnp.array(20.0))
        Array(1.6993...e-17, dtype=float32...)
    """
    return 4 * sigmoid(2 * x) * sigmoid(-2 * x)
