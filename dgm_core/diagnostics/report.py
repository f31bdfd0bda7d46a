"""Bounds and diagnostics of log weights per datum, and the table that is made of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from dgm_core.diagnostics.bounds import (
    checked_log_weights,
    effective_sample_size,
    iwae_bound,
    jvi_bound,
)
from dgm_core.diagnostics.khat import KHAT_BANDS, MIN_KHAT_PARTICLES, psis_khat
from dgm_core.diagnostics.latents import LatentKL, unused_message
from dgm_core.results import format_table

__all__ = ["LogWeights", "Report", "summary"]

_NAMED = 5  # data that a note names
_NO_BOUND = "JVI-1 and JVI-2 are estimates and no bounds: they may lie above log p(x)."


class LogWeights(np.ndarray):
    """Log weights (num_particles, *batch) as `log_weights` returns them: an array that also holds
    what was found about the latents, for `summary`.

    Attributes:
        latents: latent site -> LatentKL;  notes, what the numbers must not hide.
        empty: for everything computed from these weights.

    Example:
        >>> log_w = LogWeights(np.zeros((2, 3)), {"z": LatentKL(np.full(3, 0.01), 8)})
        >>> type(log_w.mean(0)), summary(log_w).notes
        (<class 'numpy.ndarray'>, ("Latent 'z' is hardly used: ...",))
    """

    latents: Mapping[str, LatentKL]
    notes: tuple[str, ...]

    def __new__(
        cls,
        log_w: Any,
        latents: Mapping[str, LatentKL] | None = None,
        notes: tuple[str, ...] = (),
    ) -> LogWeights:
        """View `log_w` in float64."""
        self = np.asarray(log_w, np.float64).view(cls)
        self.latents, self.notes = dict(latents or {}), tuple(notes)
        return self

    def __array_finalize__(self, source: Any) -> None:
        """Slices and copies do not know the latents of the whole."""
        self.latents, self.notes = {}, ()

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        """Arithmetic gives plain arrays."""
        if "out" in options:
            options["out"] = tuple(map(_plain, options["out"]))
        return getattr(ufunc, method)(*map(_plain, inputs), **options)


class Report(Mapping[str, np.ndarray]):
    """Bounds and diagnostics by name, each an array with one number per datum; printed as a table.

    Names:
        "ELBO", "IWAE", "JVI-1", "JVI-2", "ESS", "k-hat" (as far as there are enough particles) and
        "KL <site>" of every local latent that the weights know of. `mean` and `standard_error`
        average over the data, `khat_counts` counts the data per band of k-hat.

    Attributes:
        num_particles: how many weights each datum has.
        num_data: how many data there are.
        notes: sentences on what the numbers must not hide: a latent that is not used, data without
            a positive weight.
    """

    def __init__(
        self,
        per_datum: Mapping[str, np.ndarray],
        num_particles: int,
        notes: tuple[str, ...] = (),
    ) -> None:
        self._per_datum = dict(per_datum)
        self.num_particles = num_particles
        self.num_data = next(iter(self._per_datum.values())).size
        self.notes = tuple(notes)

    def __getitem__(self, name: str) -> np.ndarray:
        return self._per_datum[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._per_datum)

    def __len__(self) -> int:
        return len(self._per_datum)

    def mean(self, name: str) -> float:
        """The mean over the data."""
        return float(np.mean(self[name]))

    def standard_error(self, name: str) -> float:
        """The standard error of that mean; NaN for a single datum."""
        values = self[name]
        with np.errstate(invalid="ignore"):  # k-hat may be -inf
            if values.size <= 1:
                return math.nan
            return float(np.std(values, ddof=1) / math.sqrt(values.size))

    @property
    def khat_counts(self) -> dict[str, int]:
        """How many data lie in each band of k-hat; data without a positive weight lie in none.

        Empty when there were too few particles for k-hat.
        """
        if "k-hat" not in self:
            return {}
        khat = self["k-hat"]
        return {
            band: int(np.sum((low <= khat) & ((khat < high) | (high == np.inf))))
            for low, high, band in KHAT_BANDS
        }

    def rows(self) -> list[dict[str, str | float]]:
        """The table, one row per quantity: its mean, standard error and range over the data."""
        return [
            {
                "quantity": f"IWAE-{self.num_particles}" if name == "IWAE" else name,
                "mean": self.mean(name),
                "s.e.": self.standard_error(name),
                "min": float(values.min()),
                "max": float(values.max()),
            }
            for name, values in self.items()
        ]

    def to_dict(self) -> dict[str, object]:
        """Means, standard errors, counts and notes as plain values, for a JSON file."""
        return {
            "num_data": self.num_data,
            "num_particles": self.num_particles,
            "mean": {name: self.mean(name) for name in self},
            "standard_error": {name: self.standard_error(name) for name in self},
            "khat_counts": self.khat_counts,
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        counts = ", ".join(f"{band}: {count}" for band, count in self.khat_counts.items())
        rows = [{n: None if x != x else x for n, x in row.items()} for row in self.rows()]  # NaN
        lines = [format_table(rows)]
        lines += [f"data per band of k-hat: {counts}"] if counts else []
        lines += [_NO_BOUND] if "JVI-1" in self else []
        return "\n".join([*lines, *self.notes])

    __repr__ = __str__


def summary(log_w: np.ndarray) -> Report:
    """Bounds on log p(x) and the quality of the weights, per datum, from log weights.

    ELBO (the mean of log w), the IWAE and jackknife bounds, the effective sample size and k-hat.
    The jackknife of order m needs m + 1 particles, k-hat 25; what there are too few for is left
    out. Of weights from `log_weights` also the KL of every local latent, with a note where a latent
    is hardly used (posterior collapse).

    Args:
        log_w: (num_particles, *batch).

    Raises:
        ValueError: when `log_w` has no particles, no data, NaN or +inf.

    Example:
        >>> report = summary(np.zeros((2, 3)))
        >>> report["IWAE"], report.mean("ESS")
        (array([0., 0., 0.]), 2.0)
    """
    whole = log_w if isinstance(log_w, LogWeights) else LogWeights(())
    latents, own = whole.latents, whole.notes
    log_w = checked_log_weights(log_w)
    if log_w.size == 0:
        raise ValueError("log_w holds no data, so there is nothing to summarize.")
    num_particles = len(log_w)
    per_datum = {"ELBO": log_w.mean(0), "IWAE": iwae_bound(log_w)}
    per_datum |= {
        f"JVI-{order}": jvi_bound(log_w, order) for order in (1, 2) if num_particles > order
    }
    per_datum["ESS"] = effective_sample_size(log_w)
    if num_particles >= MIN_KHAT_PARTICLES:
        per_datum["k-hat"] = psis_khat(log_w)
    per_datum |= {f"KL {name}": latent.kl for name, latent in latents.items()}
    notes = [note for name, latent in latents.items() if (note := unused_message(name, latent))]
    return Report(per_datum, num_particles, (*own, *notes, *without_weight(per_datum["IWAE"])))


def without_weight(log_evidence: np.ndarray) -> tuple[str, ...]:
    """What to say of data whose weights are all zero, given the logarithms of their means."""
    data = np.flatnonzero(np.isneginf(log_evidence))
    if not len(data):
        return ()
    some = ", ".join(map(str, data[:_NAMED])) + (", ..." if len(data) > _NAMED else "")
    return (
        f"{len(data)} of {log_evidence.size} data have no positive weight (data {some}): the guide "
        "drew nothing that the model allows there, and k-hat is NaN.",
    )


def _plain(value: Any) -> Any:
    return np.asarray(value) if isinstance(value, LogWeights) else value
