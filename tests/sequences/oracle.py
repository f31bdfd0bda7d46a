"""Linear-Gaussian models as one large normal distribution, in numpy."""

from dataclasses import dataclass, replace
from math import expm1, log, pi

import numpy as np


@dataclass(frozen=True)
class Model:
    """z_1 ~ Normal(m, P), z_t ~ Normal(F z_{t-1} + b, Q), x_t ~ Normal(H z_t + d, R)."""

    F: np.ndarray
    Q: np.ndarray
    H: np.ndarray
    R: np.ndarray
    d: np.ndarray
    b: np.ndarray

    def prior(self, length: int) -> tuple[np.ndarray, np.ndarray]:
        """Mean and covariance of z_1, ..., z_T, one behind the other; z_1 ~ Normal(0, I)."""
        dim = len(self.F)
        system = np.eye(length * dim)
        noise, inputs = np.zeros((length * dim,) * 2), np.zeros(length * dim)
        for t in range(length):
            now = slice(t * dim, (t + 1) * dim)
            noise[now, now] = self.Q if t else np.eye(dim)
            if t:
                system[now, slice((t - 1) * dim, t * dim)] = -self.F
                inputs[now] = self.b
        inverse = np.linalg.inv(system)
        return inverse @ inputs, inverse @ noise @ inverse.T

    def emission(self, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """H, d and R of all steps."""
        eye = np.eye(length)
        return np.kron(eye, self.H), np.tile(self.d, length), np.kron(eye, self.R)

    def evidence(self, x: np.ndarray, seen: np.ndarray | None = None) -> float:
        """log p of those steps of x (T, x_dim) that are seen."""
        seen = np.repeat(np.ones(len(x), bool) if seen is None else seen, x.shape[1])
        mean, cov = self.prior(len(x))
        H, d, R = self.emission(len(x))
        rest = (x.ravel() - H @ mean - d)[seen]
        spread = (H @ cov @ H.T + R)[np.ix_(seen, seen)]
        log_det = np.linalg.slogdet(2 * pi * spread)[1]
        return -0.5 * (rest @ np.linalg.solve(spread, rest) + log_det)

    def posterior(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean (T, z_dim) and covariance of all states given x."""
        mean, cov = self.prior(len(x))
        H, d, R = self.emission(len(x))
        gain = np.linalg.solve(H @ cov @ H.T + R, H @ cov).T
        found = mean + gain @ (x.ravel() - H @ mean - d)
        return found.reshape(len(x), -1), cov - gain @ H @ cov


def scalar(a: float, q: float, r: float, d: float) -> Model:
    """One state, one observation, with variances q and r."""
    return Model(*(np.array([[v]]) for v in (a, q, 1.0, r)), np.array([d]), np.zeros(1))


TURN = np.array([[np.cos(0.5), -np.sin(0.5)], [np.sin(0.5), np.cos(0.5)]])
A1 = scalar(0.9, 0.25, 0.49, 0.1)
A2 = Model(
    0.95 * TURN,
    0.1 * np.eye(2),
    np.array([[1.0, 0.0]]),
    np.array([[0.2]]),
    np.zeros(1),
    np.zeros(2),
)
OTHER = replace(
    A2,
    Q=np.array([[0.3, 0.1], [0.1, 0.2]]),
    H=np.array([[1.0, -0.5], [0.3, 0.8], [0.0, 1.0]]),
    R=np.array([[0.4, 0.1, 0.0], [0.1, 0.3, -0.1], [0.0, -0.1, 0.6]]),
    d=np.array([0.3, -0.2, 0.1]),
    b=np.array([0.2, -0.4]),
)
X1 = np.array([0.5, -0.3, 1.2, 0.8, 2.0])[:, None]
X2 = np.array([[1.0, 0.4, -0.2, -0.7, -1.1], [-0.5, 0.3, 0.9, np.nan, np.nan]])[..., None]


def raw(scale: np.ndarray, floor: float = 1e-4) -> np.ndarray:
    """The number of which `positive` makes a scale."""
    return np.log(np.expm1(scale - floor)) - log(expm1(1 - floor))


def normal_weights(covariance: np.ndarray, name: str) -> dict[str, np.ndarray]:
    """The covariance's weights of a LinearNormal."""
    factor = np.linalg.cholesky(covariance)
    scale = factor.diagonal()
    below = (factor / scale[:, None])[np.tril_indices(len(factor), -1)]
    return {f"{name}.raw_scale": raw(scale), f"{name}.below": below}


def weights(model: Model, transition: str, emission: str) -> dict[str, np.ndarray]:
    """Those of the transition and the emission of a model, by their paths."""
    return {
        f"{transition}.head.weight": model.F,
        f"{transition}.head.bias": model.b,
        **normal_weights(model.Q, transition),
        f"{emission}.head.weight": model.H,
        f"{emission}.head.bias": model.d,
        **normal_weights(model.R, emission),
    }


def guides(model: Model, x: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Gains, offsets and variances of affine guides of a scalar model, by name."""
    a, q, r = model.F[0, 0], model.Q[0, 0], model.R[0, 0]
    mean, cov = model.posterior(x)
    m, v, lag = mean[:, 0], cov.diagonal(), cov.diagonal(-1)
    zero, gains = np.zeros(len(x)), np.append(0.0, lag / v[:-1])
    steps = np.append(0.0, m[:-1])
    prior = np.append(1.0, np.full(len(x) - 1, q))
    local = 1 / (1 / prior + 1 / r)
    exact = gains, m - gains * steps, v - np.append(0.0, gains[1:] * lag)
    return {
        "exact": exact,
        "mean field": (zero, m, 1 / np.linalg.inv(cov).diagonal()),
        "no future": (
            np.append(0.0, np.full(len(x) - 1, a)) * local / prior,
            local * (x[:, 0] - model.d[0]) / r,
            local,
        ),
        "marginals": (zero, m, v),
        "filtering marginals": (zero, *filtered(model, x)),
    }


def filtered(model: Model, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of each state of a scalar model given the data so far."""
    found = [model.posterior(x[: t + 1]) for t in range(len(x))]
    return tuple(np.array([part[-1].flat[-1] for part in parts]) for parts in zip(*found))


def sigma_points(gains: np.ndarray, offsets: np.ndarray, variances: np.ndarray) -> np.ndarray:
    """Points (2 T, T, 1) over which the mean of any quadratic is its expectation."""
    inverse = np.linalg.inv(np.eye(len(gains)) - np.diag(gains[1:], -1))
    steps = inverse @ np.diag(np.sqrt(len(gains) * variances))
    return (inverse @ offsets + np.concatenate([steps.T, -steps.T]))[..., None]
