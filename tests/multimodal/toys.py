"""Models of normal distributions whose evidences and posteriors are known: two modalities,
z ~ N(0, 1), x_m ~ N(a_m z + b_m, v_m), and a group with a common content.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np


def log_normal(x: Any, mean: Any, var: Any) -> Any:
    """log N(x; mean, var)."""
    return -0.5 * ((x - mean) ** 2 / var + np.log(var) + math.log(2 * math.pi))


def kl_normal(mean: Any, var: Any, other_mean: Any = 0.0, other_var: Any = 1.0) -> Any:
    """KL(N(mean, var), N(other_mean, other_var))."""
    ratio = var / other_var
    return 0.5 * (ratio + (mean - other_mean) ** 2 / other_var - 1 - np.log(ratio))


def product(means: Any, variances: Any, num_priors: int = 1) -> tuple[float, float]:
    """Mean and variance of a product of normal experts and some standard normal priors."""
    precision = num_priors + sum(1 / v for v in variances)
    return sum(m / v for m, v in zip(means, variances, strict=True)) / precision, 1 / precision


@dataclass(frozen=True)
class Toy:
    """Modalities x_m ~ N(a_m z + b_m, v_m) of z ~ N(0, 1), and what was seen of them."""

    a: tuple[float, ...] = (1.0, 0.5)
    b: tuple[float, ...] = (0.0, 0.2)
    v: tuple[float, ...] = (0.5, 0.25)
    x: tuple[float, ...] = (1.2, -0.4)

    def expert(self, m: int) -> tuple[float, float]:
        """posterior / prior: mean and variance as a function of z."""
        return (self.x[m] - self.b[m]) / self.a[m], self.v[m] / self.a[m] ** 2

    def posterior(self, seen: tuple[int, ...]) -> tuple[float, float]:
        """Mean and variance given some modalities."""
        return product(*zip(*map(self.expert, seen), strict=True)) if seen else (0.0, 1.0)

    def evidence(self, seen: tuple[int, ...]) -> float:
        """log p of some modalities."""
        index = list(seen)
        a, b, v, x = (np.array(values)[index] for values in (self.a, self.b, self.v, self.x))
        cov = np.outer(a, a) + np.diag(v)
        gap = x - b
        quadratic = gap @ np.linalg.solve(cov, gap)
        return -0.5 * (quadratic + np.linalg.slogdet(2 * np.pi * cov)[1])

    def log_joint(self, z: Any) -> Any:
        """log p(x, z)."""
        terms = zip(self.x, self.a, self.b, self.v, strict=True)
        return log_normal(z, 0.0, 1.0) + sum(log_normal(x, a * z + b, v) for x, a, b, v in terms)


C2 = Toy()
OTHER = Toy((0.7, -1.3), (0.4, 0.1), (0.3, 0.8), (-0.5, 0.9))
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(160)
WEIGHTS = WEIGHTS / WEIGHTS.sum()


def expected(function: Any, mean: float, var: float) -> float:
    """E f(z) for z ~ N(mean, var)."""
    return float(WEIGHTS @ function(mean + math.sqrt(var) * NODES))


def expected2(function: Any, one: tuple[float, float], two: tuple[float, float]) -> float:
    """E f(z, y) for independent normal z and y, each given by its mean and variance."""
    z, y = (mean + math.sqrt(var) * NODES for mean, var in (one, two))
    return float(WEIGHTS @ function(z[:, None], y[None]) @ WEIGHTS)
