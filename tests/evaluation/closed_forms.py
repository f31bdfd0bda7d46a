"""Models whose evidence is known, and transitions that forget where they were."""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import stats
from scipy.special import gammaln, logsumexp

from tests.mcmc.faces import kernels

W = np.array([[1.0, 0.5], [-0.4, 1.2], [0.3, -0.7]])
SHIFT, NOISE = np.array([0.1, 0.0, -0.2]), 0.1
X = np.array([[1.3, -0.6, 0.4]])
LOG_P = -3.02575711
COUNTS = np.array([3.0, 0.0, 4.0, 2.0, 6.0])
SUCCESSES = np.array([0.0, 7.0, 10.0])


def linear(b: Any) -> tuple[Callable, Callable]:
    """z ~ N(0, I), x ~ N(W z + shift, 0.1 I); a guide that is somewhat off."""
    d = b.dist

    def model(x: Any) -> None:
        with b.plate("data", len(x)):
            z = b.sample("z", d.Normal(b.array(np.zeros(2)), 1.0).to_event(1))
            loc = z @ b.array(W.T) + b.array(SHIFT)
            b.sample("x", d.Normal(loc, NOISE**0.5).to_event(1), obs=x)

    def guide(x: Any) -> None:
        with b.plate("data", len(x)):
            loc = b.array(np.array([0.8, 0.1])) + 0.0 * x[:, :2]
            b.sample("z", d.Normal(loc, 0.4).to_event(1))

    return model, guide


def tempered(beta: float, x: np.ndarray = X[0]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of prior x likelihood^beta of the linear model."""
    cov = np.linalg.inv(np.eye(2) + beta * W.T @ W / NOISE)
    return cov @ (beta * W.T @ (x - SHIFT) / NOISE), cov


def mean_log_likelihood(beta: float) -> float:
    """E log p(x | z) at a temperature."""
    mean, cov = tempered(beta)
    left = X[0] - SHIFT - W @ mean
    square = left @ left + np.trace(W @ cov @ W.T)
    return float(-1.5 * np.log(2 * np.pi * NOISE) - square / (2 * NOISE))


def riemann_sums(betas: np.ndarray) -> tuple[float, float]:
    """What forward and reverse log-weights are in the mean, under perfect transitions."""
    heights, lengths = np.array([mean_log_likelihood(beta) for beta in betas]), np.diff(betas)
    return float(lengths @ heights[:-1]), float(lengths @ heights[1:])


def perfect(b: Any) -> Callable:
    """Transitions to exact draws of each temperature of the linear model, on X."""
    mcmc, np_ = kernels(b), b.np

    class Perfect:
        def __init__(self, beta: Any) -> None:
            precision = b.array(np.eye(2)) + beta * b.array(W.T @ W / NOISE)
            self.cov = np_.linalg.inv(precision)
            self.mean = self.cov @ (beta * b.array(W.T @ (X[0] - SHIFT) / NOISE))

        def noise(self, state: Any, **key: Any) -> Any:
            return mcmc.HMC(0.1, 1).noise(state, **key)

        def __call__(self, log_density: Any, state: Any, noise: Any) -> Any:
            x = self.mean + noise.normal @ np_.linalg.cholesky(self.cov).T
            one = np_.ones_like(state.log_density)
            return mcmc.start(log_density, x), mcmc.Info(one, one > 0, 0 * one)

    def at(beta: Any) -> Perfect:
        return Perfect(beta)

    return at


def exact_draws(num: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Of the posterior of the linear model."""
    mean, cov = tempered(1.0)
    z = np.random.default_rng(seed).multivariate_normal(mean, cov, size=num)
    return {"z": z[:, None]}


def gamma_poisson(b: Any) -> tuple[Callable, Callable]:
    """One rate for all counts."""
    d = b.dist

    def model(x: Any) -> None:
        rate = b.sample("rate", d.Gamma(b.array(2.0), 1.5))
        with b.plate("data", len(x)):
            b.sample("x", d.Poisson(rate), obs=x)

    def guide(x: Any) -> None:
        b.sample("rate", d.LogNormal(b.array(0.7), 0.5))

    return model, guide


def log_gamma_poisson(x: np.ndarray = COUNTS) -> float:
    shape, rate, total = 2.0, 1.5, x.sum()
    found = shape * np.log(rate) - gammaln(shape) + gammaln(shape + total)
    return float(found - (shape + total) * np.log(rate + len(x)) - gammaln(x + 1).sum())


def beta_binomial(b: Any) -> tuple[Callable, Callable]:
    """A probability for each datum, inside a second plate with a scale of its own."""
    d = b.dist

    def model(x: Any) -> None:
        with b.plate("data", len(x)):
            p = b.sample("p", d.Beta(b.array(2.0), 3.0))
            b.sample("x", d.Binomial(10, probs=p), obs=x)

    def guide(x: Any) -> None:
        with b.plate("data", len(x)):
            b.sample("p", d.Beta(1.0 + 0.7 * x, 8.0 - 0.7 * x))

    return model, guide


def log_beta_binomial() -> np.ndarray:
    return stats.betabinom(10, 2.0, 3.0).logpmf(SUCCESSES)


GROUPS = np.array([[1.2, 0.4, 2.0], [-0.8, 0.1, -1.5]])  # (members, groups)


def hierarchy(b: Any) -> tuple[Callable, Callable]:
    """mu ~ N(0, 4), theta_g ~ N(mu, 1), x_mg ~ N(theta_g, 0.25): globals, locals, two plates."""
    d = b.dist

    def model(x: Any) -> None:
        mu = b.sample("mu", d.Normal(b.array(0.0), 2.0))
        with b.plate("groups", x.shape[1], dim=-1):
            theta = b.sample("theta", d.Normal(mu, 1.0))
            with b.plate("members", x.shape[0], dim=-2):
                b.sample("x", d.Normal(theta, 0.5), obs=x)

    def guide(x: Any) -> None:
        b.sample("mu", d.Normal(b.array(0.3), 0.9))
        with b.plate("groups", x.shape[1], dim=-1):
            b.sample("theta", d.Normal(0.8 * x.mean(0), 0.6))

    return model, guide


def log_hierarchy() -> float:
    groups = np.repeat(np.arange(3), 2)
    cov = 4.0 + 1.0 * (groups[:, None] == groups) + 0.25 * np.eye(6)
    return float(stats.multivariate_normal(np.zeros(6), cov).logpdf(GROUPS.T.reshape(-1)))


VISIBLE, HIDDEN = 3, 2
COUPLING = np.array([[0.9, -0.6], [-0.4, 1.1], [0.7, 0.3]])
ON_VISIBLE, ON_HIDDEN = np.array([-0.3, 0.2, 0.5]), np.array([0.4, -0.7])


def spins(b: Any) -> Callable:
    """A Gaussian-Bernoulli machine with its hidden units summed out: E(v) = |v|^2 / 2 - a v -
    sum_j log (1 + exp(c_j + v W_j))."""
    d = b.dist

    def model() -> None:
        v = b.sample("v", d.Normal(b.array(np.zeros(VISIBLE)), 1.0).to_event(1))
        inside = v @ b.array(COUPLING) + b.array(ON_HIDDEN)
        energy = -(v * b.array(ON_VISIBLE)).sum(-1)
        zero = 0.0 * inside
        energy = energy - b.np.logaddexp(inside, zero).sum(-1)
        b.factor("machine", -energy)

    return model


def log_spins() -> float:
    """ln Z against the normal base, by summing over the hidden units."""
    found = []
    for h in np.ndindex(*(2,) * HIDDEN):
        pull = ON_VISIBLE + COUPLING @ np.array(h)
        found.append(ON_HIDDEN @ np.array(h) + 0.5 * pull @ pull)
    return float(logsumexp(found))
