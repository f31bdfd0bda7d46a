"""Particle filters of hidden Markov models by enumeration of all draws and ancestors, in numpy."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Chain:
    """z_1 ~ start, z_t ~ moves[z_{t-1}], x_t ~ emits[z_t], of which x has been seen; the guide
    draws z_t ~ proposals[t, z_{t-1}] (start at t = 0 is proposals[0, 0]), by default as the model.
    """

    start: np.ndarray
    moves: np.ndarray
    emits: np.ndarray
    x: tuple[int, ...]
    proposals: np.ndarray | None = None

    def priors(self) -> np.ndarray:
        """p(z_t | z_{t-1}), (time, states, states)."""
        first = np.broadcast_to(self.start, self.moves.shape)
        return np.stack([first] + [self.moves] * (len(self.x) - 1))

    def guides(self) -> np.ndarray:
        """q(z_t | z_{t-1}), (time, states, states)."""
        return self.priors() if self.proposals is None else self.proposals

    def evidence(self) -> float:
        """p(x)."""
        forward = self.start * self.emits[:, self.x[0]]
        for x in self.x[1:]:
            forward = (forward @ self.moves) * self.emits[:, x]
        return forward.sum()


@dataclass(frozen=True)
class Paths:
    """All that may happen to the particles, row by row.

    draws: (rows, time, particles) states; ancestors: (rows, time - 1, particles), where not
    resampled each its own; uniforms: points at which `multinomial` finds these; chosen:
    (rows, time - 1), which were resampled; log_prob, log_z: (rows,).
    """

    draws: np.ndarray
    ancestors: np.ndarray
    uniforms: np.ndarray
    chosen: np.ndarray
    log_prob: np.ndarray
    log_z: np.ndarray


def tuples(size: int, num: int) -> np.ndarray:
    """All `num`-tuples of the numbers below `size`."""
    return np.stack(np.meshgrid(*[np.arange(size)] * num, indexing="ij"), -1).reshape(-1, num)


def enumerated(chain: Chain, num: int, threshold: float) -> Paths:
    """Every course of `num` particles that are resampled where the effective sample size is below
    the threshold, by independent draws of ancestors.
    """
    size, length = len(chain.start), len(chain.x)
    priors, guides = chain.priors(), chain.guides()
    everyone, families, itself = tuples(size, num), tuples(num, num), np.arange(num)
    draws, lines = np.zeros((1, 0, num), int), np.zeros((1, 0, num), int)
    points, chosen = np.zeros((1, 0, num)), np.zeros((1, 0), bool)
    log_prob, log_z, weights, last = np.zeros(1), np.zeros(1), np.ones((1, num)), draws.sum(1)
    for t in range(length):
        row, own = np.indices((len(draws), len(everyone))).reshape(2, -1)
        z, before = everyone[own], last[row]
        q = guides[t][before, z]
        weights = weights[row] * priors[t][before, z] * chain.emits[z, chain.x[t]] / q
        draws = np.concatenate([draws[row], z[:, None]], 1)
        log_prob = log_prob[row] + np.log(q).sum(1)
        log_z, lines, points, chosen = (v[row] for v in (log_z, lines, points, chosen))
        if t + 1 == length:
            log_z = log_z + np.log(weights.mean(1))
            break
        shares = weights / weights.sum(1, keepdims=True)
        low = 1 / (shares**2).sum(1) < threshold
        times = np.where(low, len(families), 1)
        row = np.repeat(np.arange(len(draws)), times)
        number = np.arange(len(row)) - np.repeat(np.cumsum(times) - times, times)
        low, a = low[row], np.where(low[row, None], families[number], itself)
        own, middles = shares[row], np.cumsum(shares, 1)[row] - shares[row] / 2
        log_a = np.log(np.take_along_axis(own, a, 1)).sum(1)
        log_prob = log_prob[row] + np.where(low, log_a, 0.0)
        log_z = log_z[row] + np.where(low, np.log(weights.mean(1))[row], 0.0)
        weights = np.where(low[:, None], 1.0, weights[row])
        draws, last = draws[row], np.take_along_axis(z[row], a, 1)
        lines = np.concatenate([lines[row], a[:, None]], 1)
        points = np.concatenate([points[row], np.take_along_axis(middles, a, 1)[:, None]], 1)
        chosen = np.concatenate([chosen[row], low[:, None]], 1)
    return Paths(draws, lines, points, chosen, log_prob, log_z)


HMM = Chain(
    np.array([0.6, 0.4]),
    np.array([[0.7, 0.3], [0.2, 0.8]]),
    np.array([[0.5, 0.4, 0.1], [0.1, 0.3, 0.6]]),
    (0, 2, 1),
)

OTHER = Chain(
    np.array([0.5, 0.2, 0.3]),
    np.array([[0.6, 0.3, 0.1], [0.15, 0.05, 0.8], [0.35, 0.4, 0.25]]),
    np.array([[0.7, 0.3], [0.05, 0.95], [0.45, 0.55]]),
    (1, 0, 0),
)


def by_rows(chain: Chain, paths: Paths) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """log-probabilities of the draws and of the ancestors, and log Zhat, at other numbers of the
    chain (rows,); whether a row is resampled stays as it is.
    """
    priors, guides = chain.priors(), chain.guides()
    rows, length, num = paths.draws.shape
    log_draws, log_lines, log_z = np.zeros((3, rows))
    last, weights = np.zeros((rows, num), int), np.ones((rows, num))
    for t in range(length):
        z = paths.draws[:, t]
        q = guides[t][last, z]
        log_draws += np.log(q).sum(1)
        weights = weights * priors[t][last, z] * chain.emits[z, chain.x[t]] / q
        if t + 1 == length:
            break
        low, a = paths.chosen[:, t], paths.ancestors[:, t]
        shares = np.take_along_axis(weights / weights.sum(1, keepdims=True), a, 1)
        log_lines += np.where(low, np.log(shares).sum(1), 0.0)
        log_z += np.where(low, np.log(weights.mean(1)), 0.0)
        weights, last = np.where(low[:, None], 1.0, weights), np.take_along_axis(z, a, 1)
    return log_draws, log_lines, log_z + np.log(weights.mean(1))
