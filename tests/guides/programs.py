"""Models of latent sites on every kind of support, and others as users write them, for both
backends."""

from collections.abc import Callable
from typing import Any

import numpy as np


def seen(b: Any) -> None:
    """Something observed, of log-density log N(0; 0, 1)."""
    b.sample("y", b.dist.Normal(b.array(0.0), b.array(1.0)), obs=b.array(0.0))


LOG_SEEN = -0.5 * np.log(2 * np.pi)


def bounded(b: Any) -> Callable:
    """Intervals, one of them with a bound that is another site, and positive numbers."""
    d = b.dist

    def model() -> None:
        a = b.sample("a", d.Beta(b.array(2.0), b.array(3.0)))
        b.sample("b", d.Uniform(b.array(0.0), 1.0 - a))
        scale = b.sample("scale", d.Gamma(b.array(2.0), b.array(0.5)))
        b.sample("loc", d.Normal(b.array(1.0), scale))
        seen(b)

    return model


def vectors(b: Any) -> Callable:
    """A simplex and an ordered vector."""
    d = b.dist

    def model() -> None:
        b.sample("p", d.Dirichlet(b.array([2.0, 1.0, 3.0])))
        normal = d.Normal(b.array(np.zeros(3)), b.array(1.0)).to_event(1)
        b.sample("cuts", d.TransformedDistribution(normal, d.transforms.OrderedTransform()))
        seen(b)

    return model


def circle(b: Any) -> Callable:
    """An angle."""

    def model() -> None:
        b.sample("angle", b.dist.VonMises(b.array(0.5), b.array(2.0)))
        seen(b)

    return model


def matrices(b: Any) -> Callable:
    """Factors of correlations, and a vector whose covariance they are."""
    d = b.dist

    def model() -> None:
        factor = b.sample("factor", d.LKJCholesky(3, b.array(2.0)))
        scales = b.sample("scales", d.Gamma(b.array(3.0 * np.ones(3)), b.array(2.0)).to_event(1))
        tril = scales[..., None] * factor
        b.sample("beta", d.MultivariateNormal(b.array(np.zeros(3)), scale_tril=tril))
        seen(b)

    return model


def in_plates(b: Any) -> Callable:
    """Latents with an event shape (2, 2) and of supports of their own, in nested plates and one
    at dimension -2 alone."""
    d = b.dist

    def model() -> None:
        with b.plate("outer", 2, dim=-2):
            scale = b.sample("scale", d.Gamma(b.array(4.0), b.array(4.0)))
            with b.plate("inner", 3, dim=-1):
                b.sample("z", d.Uniform(-scale, 2.0 * scale))
        with b.plate("other", 2):
            b.sample("w", d.Normal(b.array(np.zeros((2, 2))), b.array(2.0)).to_event(2))
        seen(b)

    return model


PRIORS = {
    "bounded": bounded,
    "vectors": vectors,
    "circle": circle,
    "matrices": matrices,
    "plates": in_plates,
}


def schools(b: Any) -> tuple[Callable, np.ndarray]:
    """Eight schools, centered."""
    d = b.dist
    sigma = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])

    def model(y: Any) -> None:
        mu = b.sample("mu", d.Normal(b.array(0.0), b.array(5.0)))
        tau = b.sample("tau", d.HalfCauchy(b.array(5.0)))
        with b.plate("J", 8):
            theta = b.sample("theta", d.Normal(mu, tau))
            b.sample("y", d.Normal(theta, b.array(sigma)), obs=y)

    return model, np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])


def ladder(b: Any) -> tuple[Callable, np.ndarray]:
    """A linear model that is written for one draw at a time, with deterministic sites and a factor
    that is a part of the prior."""
    d = b.dist
    x = np.linspace(-1.0, 1.0, 5)

    def model(y: Any) -> None:
        beta = b.sample("beta", d.Normal(b.array(np.zeros(2)), b.array(1.0)).to_event(1))
        b.factor("penalty", -0.5 * beta[0] ** 2)
        line = b.deterministic("line", beta[0] + beta[1] * b.array(x))
        with b.plate("data", 5):
            b.sample("y", d.Normal(line, b.array(0.5)), obs=y)

    return model, 1.0 + 2.0 * x


def ladder_evidence() -> float:
    """log of the integral of the ladder's unnormalized density."""
    x = np.linspace(-1.0, 1.0, 5)
    design = np.stack([np.ones(5), x], 1)
    prior = np.diag([0.5, 1.0])  # Normal(0, 1) times exp(-b^2 / 2) is sqrt(1/2) Normal(0, 1/2)
    covariance = design @ prior @ design.T + 0.25 * np.eye(5)
    y = 1.0 + 2.0 * x
    _, log_det = np.linalg.slogdet(covariance)
    quadratic = y @ np.linalg.solve(covariance, y)
    return -0.5 * (quadratic + log_det + 5 * np.log(2 * np.pi)) + 0.5 * np.log(0.5)
