"""Draws of Markov chains, what they say of themselves, and the way into ArviZ."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import arviz as az

__all__ = ["NUM_STARTS", "Chains", "Surroundings", "affine_map"]

NUM_STARTS = 1000  # draws of a guide that say where its posterior lies


class Chains(dict[str, np.ndarray]):
    """Draws of the sites of a model, {site: (num_chains, num_draws, ...)}.

    Attributes:
        diverging: (num_chains, num_draws), where the sampler's steps left the posterior; more than
            a few say that it does not see all of it.
        dims: site -> the names of its axes behind the draws, for ArviZ.

    Example:
        >>> chains = Chains({"z": np.random.default_rng(0).normal(size=(2, 100, 3))})
        >>> chains.flat()["z"].shape, bool(chains.rhat() < 1.05)
        ((200, 3), True)
    """

    def __init__(
        self,
        draws: Mapping[str, Any],
        *,
        diverging: np.ndarray | None = None,
        dims: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        super().__init__({name: np.asarray(values) for name, values in draws.items()})
        shape = next(iter(self.values())).shape[:2] if self else (0, 0)
        self.diverging = np.zeros(shape, bool) if diverging is None else np.asarray(diverging, bool)
        self.dims = dict(dims or {})

    def flat(self) -> dict[str, np.ndarray]:
        """The draws of all chains behind each other, {site: (num_chains * num_draws, ...)}."""
        return {name: values.reshape(-1, *values.shape[2:]) for name, values in self.items()}

    def rhat(self) -> float:
        """The largest split R-hat over all entries that vary; above 1.01 the chains have not mixed.

        References:
            Vehtari et al. (2021), Rank-normalization, folding, and localization: an improved
            R-hat, Bayesian Analysis 16.
        """
        with warnings.catch_warnings():  # ArviZ announces its next version on import
            warnings.simplefilter("ignore")
            import arviz as az
        largest = [0.0]
        for values in self.values():
            columns = values.reshape(*values.shape[:2], -1)
            columns = columns[..., np.ptp(columns, axis=(0, 1)) > 0]
            largest += [float(az.rhat(columns[..., i])) for i in range(columns.shape[-1])]
        return max(largest)

    def notes(self) -> list[str]:
        """Sentences on what is wrong with the chains; none where nothing is seen to be."""
        found, rhat = [], self.rhat()
        if not rhat < 1.05:
            found.append(f"NUTS has not mixed: R-hat is {rhat:.3g}. Draw longer chains.")
        if (bad := int(self.diverging.sum())) > 0.005 * self.diverging.size:
            found.append(
                f"NUTS left the posterior in {bad} of {self.diverging.size} draws: it may not see "
                "all of it. Write the model in another way, or pass through=run."
            )
        return found

    def to_arviz(self) -> az.InferenceData:
        """An `InferenceData` with the groups posterior and sample_stats (diverging)."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import arviz as az
        names = {name: name.replace("/", ".") for name in self}  # netCDF keeps "/" for its groups
        return az.from_dict(
            posterior={names[name]: values for name, values in self.items()},
            sample_stats={"diverging": self.diverging},
            dims={names[name]: list(axes) for name, axes in self.dims.items()},
        )


def affine_map(draws: np.ndarray, *, most: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """m and L of a map u = m + L e under which draws (num_draws, D) have mean 0 and covariance I.

    The covariance is shrunk a little towards a small multiple of the identity; with fewer than ten
    draws per dimension, or more than `most` dimensions, only its diagonal is kept.  A direction
    without any variance, as of a point, keeps the scale 1.

    Example:
        >>> m, L = affine_map(np.random.default_rng(0).normal(3.0, 2.0, size=(1000, 1)))
        >>> m.round(0), L.round(0)
        (array([3.]), array([[2.]]))
    """
    num, dim = draws.shape
    mean, variance = draws.mean(0), draws.var(0)
    scale = np.sqrt(np.where(variance > 1e-12 * (1 + mean**2), variance, 1.0))
    if num < 10 * dim or dim > most:
        return mean, np.diag(scale)
    centered = (draws - mean) / scale
    shrunk = (num * (centered.T @ centered / num) + 5 * np.eye(dim)) / (num + 5)
    return mean, scale[:, None] * np.linalg.cholesky(shrunk)


class Surroundings:
    """Where chains start, and the affine map u = m + L e under which they move.

    Args:
        size: of u.
        draws: of a guide (num_draws, size); None: the identity, and starts of U(-2, 2).
        seed: of the choice.

    Attributes:
        affine: m (size,) and L (size, size).
    """

    def __init__(self, size: int, draws: np.ndarray | None, seed: int) -> None:
        rng = np.random.default_rng(seed % 2**64)
        if draws is None:
            self.affine: tuple[np.ndarray, np.ndarray] = np.zeros(size), np.eye(size)
            self._candidates = rng.uniform(-2, 2, (_TRIES, size))
        else:
            self.affine = affine_map(draws)
            chosen = rng.permutation(len(draws))[:_TRIES]
            self._candidates = np.linalg.solve(self.affine[1], (draws[chosen] - self.affine[0]).T).T

    def starts(self, log_density: Callable[[np.ndarray], float], num: int) -> np.ndarray:
        """So many e (num, size) of finite log-density. Raises ValueError where there are none."""
        found = []
        for e in np.resize(self._candidates, (max(_TRIES, num), self._candidates.shape[1])):
            if np.isfinite(log_density(e)):
                found.append(e)
            if len(found) == num:
                return np.stack(found)
        raise ValueError(
            f"Only {len(found)} of {_TRIES} places to start from have a finite log-density: look "
            "at the model and its data, or pass start=run, the run of a guide."
        )

    def moved(self, e: np.ndarray) -> np.ndarray:
        """u of e (..., size)."""
        return self.affine[0] + e @ self.affine[1].T


_TRIES = 100
