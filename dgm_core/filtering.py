"""What a particle filter says of the states of a sequence: weighted moments and quantiles, and the
paths of its particles; in numpy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Filtered", "Smoothed"]

_MEMORY = 1e-4  # of states in single precision


@dataclass(frozen=True, repr=False)
class Filtered:
    """What a particle filter has found, a sequence in each row.

    Attributes:
        log_likelihood: estimates of log p(x_1, ..., x_T), (num_data,).
        step_log_likelihood: of log p(x_t | x_1, ..., x_{t-1}), one step ahead (num_data, T).
        means, variances: of each latent given x_1, ..., x_t, {site: (num_data, T, *event)}.
        quantiles: at `probs`, {site: (len(probs), num_data, T, *event)}.
        probs: of the quantiles.
        ess: the effective sample size before resampling (num_data, T).
        resampled: whether a sequence was resampled after a step (num_data, T).
        num_particles: K.

    All is zero in the padding.
    """

    log_likelihood: np.ndarray
    step_log_likelihood: np.ndarray
    means: Mapping[str, np.ndarray]
    variances: Mapping[str, np.ndarray]
    quantiles: Mapping[str, np.ndarray]
    probs: tuple[float, ...]
    ess: np.ndarray
    resampled: np.ndarray
    num_particles: int

    def __repr__(self) -> str:
        num, length = self.ess.shape
        return (
            f"{type(self).__name__}: {num} sequences of {length} steps, {self.num_particles} "
            f"particles, log-likelihood {self.log_likelihood.mean():.4g} on average"
        )


@dataclass(frozen=True, repr=False)
class Smoothed(Filtered):
    """What a particle smoother has found: as `Filtered`, with the moments and quantiles of each
    latent given all of x.

    Attributes:
        draws: paths from the posterior, {site: (num_draws, num_data, T, *event)}.
        distinct: how many particles of a step the paths go through (num_data, T), those with
            descendants at the end or, simulated backward, those drawn: where these are few, so is
            what the smoother knows of that step.
    """

    draws: Mapping[str, np.ndarray]
    distinct: np.ndarray


@dataclass(frozen=True)
class Course:
    """The particles of some sequences, time first.

    log_evidence, chosen, alive: (T, num_data), of which `alive` are no padding; log_w, ancestors:
    (T, num_particles, num_data); values: {site: (T, num_particles, num_data, *event)}; paths:
    particles drawn backward (T, num_draws, num_data); memory: how much of the state before is left
    behind a step, given its draws (num_data,).
    """

    log_evidence: np.ndarray
    chosen: np.ndarray
    alive: np.ndarray
    log_w: np.ndarray
    ancestors: np.ndarray
    values: Mapping[str, np.ndarray]
    paths: np.ndarray | None = None
    memory: np.ndarray | None = None

    def checked(self, first_row: int) -> Course:
        """ValueError where a weight is NaN or infinite, or no particle has any, and where a
        backward simulation would be wrong.
        """
        for t in range(len(self.log_w)):
            weights = self.log_w[t]
            if bad := int((np.isnan(weights) | np.isposinf(weights)).sum()):
                raise ValueError(
                    f"The weights of step {t} are NaN or infinite for {bad} of {weights.size} "
                    "particles: look at the weights of the run (scales that are not positive?) "
                    "and at the data."
                )
            if len(dead := np.flatnonzero(np.isneginf(weights).all(0))):
                raise ValueError(
                    f"No particle of sequence {first_row + dead[0]} has a weight at step {t}: the "
                    "data are impossible there under all that was drawn; take more particles, or "
                    "a guide that looks at the data."
                )
        if self.memory is not None and not (self.memory < _MEMORY).all():
            raise ValueError(
                "Paths can be drawn backward where the state behind a step depends on what the "
                "step has drawn alone, but the states of this model remember more (those behind "
                f"one draw differ by {self.memory.max():.2g}): take backward=False."
            )
        return self

    def filtered(self, probs: Sequence[float]) -> Filtered:
        """Moments and quantiles of each step."""
        return Filtered(**self._found(normalized(self.log_w), self.values, probs))

    def smoothed(
        self, probs: Sequence[float], num_draws: int, rng: np.random.Generator
    ) -> Smoothed:
        """The same given all of x, along the paths of the particles of the last step, or those that
        were drawn.
        """
        lines = self.lines() if self.paths is None else self.paths
        values = {
            name: np.take_along_axis(x, lines.reshape(lines.shape + (1,) * (x.ndim - 3)), 1)
            for name, x in self.values.items()
        }
        if self.paths is None:
            last = normalized(self.log_w)[-1]  # (num_particles, num_data)
            drawn = drawn_from(last, num_draws, rng)
        else:
            last, drawn = np.full(lines.shape[1:], 1 / num_draws), np.arange(num_draws)[:, None]
        found = self._found(np.broadcast_to(last, lines.shape), values, probs)
        draws = {}
        for name, x in values.items():
            index = drawn.reshape(1, *drawn.shape, *(1,) * (x.ndim - 3))
            draws[name] = by_sequence(np.take_along_axis(x, index, 1), self.alive[:, None])
        ordered = np.sort(lines, 1)
        distinct = 1 + (ordered[:, 1:] != ordered[:, :-1]).sum(1)
        return Smoothed(**found, draws=draws, distinct=(distinct * self.alive).T)

    def lines(self) -> np.ndarray:
        """The ancestor in each step of each particle of the last (T, num_particles, num_data)."""
        lines = np.empty_like(self.ancestors)
        lines[-1] = np.arange(lines.shape[1])[:, None]
        for t in range(len(lines) - 1, 0, -1):
            lines[t - 1] = np.take_along_axis(self.ancestors[t - 1], lines[t], 0)
        return lines

    def _found(
        self, weights: np.ndarray, values: Mapping[str, np.ndarray], probs: Sequence[float]
    ) -> dict:
        parts = {name: moments(x, weights, probs) for name, x in values.items()}
        own = normalized(self.log_w)
        before = np.concatenate([np.zeros_like(self.log_evidence[:1]), self.log_evidence[:-1]])
        return {
            "log_likelihood": self.log_evidence[-1],
            "step_log_likelihood": ((self.log_evidence - before) * self.alive).T,
            "means": {n: by_sequence(m, self.alive) for n, (m, _, _) in parts.items()},
            "variances": {n: by_sequence(v, self.alive) for n, (_, v, _) in parts.items()},
            "quantiles": {n: by_sequence(q, self.alive[:, None]) for n, (_, _, q) in parts.items()},
            "probs": tuple(probs),
            "ess": (self.alive / (own**2).sum(1)).T,
            "resampled": self.chosen.T,
            "num_particles": self.log_w.shape[1],
        }


def normalized(log_w: np.ndarray) -> np.ndarray:
    """Weights (T, num_particles, num_data) that add up to one."""
    weights = np.exp(log_w - log_w.max(1, keepdims=True))
    return weights / weights.sum(1, keepdims=True)


def moments(
    x: np.ndarray, weights: np.ndarray, probs: Sequence[float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means and variances (T, num_data, *event) and quantiles (T, len(probs), num_data, *event) of
    values (T, num_particles, num_data, *event); a quantile is the smallest value that is not
    exceeded with its probability.

    Example:
        >>> x, weights = np.array([[[3.0], [1.0]]]), np.array([[[0.25], [0.75]]])
        >>> moments(x, weights, (0.5, 0.9))
        (array([[1.5]]), array([[0.75]]), array([[[1.],
                [3.]]]))
    """
    means, variances, quantiles = [], [], []
    for value, weight in zip(x.astype(np.float64), weights, strict=True):
        weight = weight.reshape(weight.shape + (1,) * (value.ndim - 2))
        mean = (weight * value).sum(0)
        means.append(mean)
        variances.append((weight * (value - mean) ** 2).sum(0))
        order = value.argsort(0, kind="stable")
        value = np.take_along_axis(value, order, 0)
        total = np.take_along_axis(np.broadcast_to(weight, value.shape), order, 0).cumsum(0)
        total /= total[-1]
        found = [np.take_along_axis(value, (total < p - 1e-12).sum(0)[None], 0)[0] for p in probs]
        quantiles.append(np.reshape(found, (len(probs), *mean.shape)))
    return np.stack(means), np.stack(variances), np.stack(quantiles)


def drawn_from(weights: np.ndarray, num_draws: int, rng: np.random.Generator) -> np.ndarray:
    """Indices of particles (num_draws, num_data), by their weights (num_particles, num_data)."""
    total = weights.cumsum(0)
    total /= total[-1]
    points = rng.random((num_draws, weights.shape[1]))
    columns = [
        np.searchsorted(total[:, n], points[:, n], side="right") for n in range(len(total.T))
    ]
    return np.stack(columns, 1)


def by_sequence(x: np.ndarray, alive: np.ndarray) -> np.ndarray:
    """(T, ..., num_data, *event) -> (..., num_data, T, *event), zero in the padding."""
    lead = alive.ndim - 1
    mask = np.broadcast_to(alive.reshape(alive.shape + (1,) * (x.ndim - alive.ndim)), x.shape)
    return np.moveaxis(np.where(mask, x, 0), 0, lead)


def joined(parts: Sequence[Filtered], num_data: int) -> Filtered:
    """The results of some sequences and of others, of which `num_data` in all are wanted."""
    first = parts[0]
    found: dict = {"probs": first.probs, "num_particles": first.num_particles}
    axes = {"quantiles": 1, "draws": 1}
    for name, value in vars(first).items():
        if name in found:
            continue
        axis = axes.get(name, 0)

        def along(arrays: list[np.ndarray], axis: int = axis) -> np.ndarray:
            return np.concatenate(arrays, axis).take(range(num_data), axis)

        several = [getattr(part, name) for part in parts]
        if isinstance(value, Mapping):
            found[name] = {site: along([part[site] for part in several]) for site in value}
        else:
            found[name] = along(several)
    return type(first)(**found)
