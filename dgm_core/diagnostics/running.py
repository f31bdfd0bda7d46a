"""Bounds from weights that come chunk by chunk and are not kept."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from dgm_core.arguments import check_count, refuse
from dgm_core.diagnostics.bounds import checked_log_weights, relative_error
from dgm_core.diagnostics.report import Report

__all__ = ["RunningWeights"]


class RunningWeights:
    """Sums over weights w_kn of num_data data that `add` is given in chunks of particles.

    Held are three numbers per datum: the running log sum w, log sum w^2 and sum log w, whatever the
    number of particles.

    Args:
        num_data: how many data there are.

    Attributes:
        num_particles: the weights of a datum so far.

    Example:
        >>> running = RunningWeights(2)
        >>> for chunk in np.split(np.zeros((6, 2)), 3):
        ...     running.add(chunk)
        >>> running.report()["IWAE"], running.report()["ESS"]
        (array([0., 0.]), array([6., 6.]))
    """

    def __init__(self, num_data: int) -> None:
        num_data = check_count("num_data", num_data)
        self.num_particles = 0
        self._sum = np.full(num_data, -np.inf)
        self._squares = np.full(num_data, -np.inf)
        self._logs = np.zeros(num_data)

    def add(self, log_w: np.ndarray) -> None:
        """More particles, (num_particles, num_data).

        Raises:
            ValueError: for other shapes, NaN and +inf.
        """
        log_w = checked_log_weights(log_w)
        if log_w.shape[1:] != self._sum.shape:
            refuse("log_w", f"(num_particles, {len(self._sum)})", log_w)
        self._sum = np.logaddexp(self._sum, np.logaddexp.reduce(log_w, 0))
        self._squares = np.logaddexp(self._squares, np.logaddexp.reduce(2 * log_w, 0))
        self._logs = self._logs + log_w.sum(0)
        self.num_particles += len(log_w)

    def report(
        self, latents: Mapping[str, np.ndarray] | None = None, notes: tuple[str, ...] = ()
    ) -> Report:
        """ELBO, IWAE, the Monte Carlo error of IWAE (`evidence_error`) and the effective sample
        size, per datum, with KL terms and notes beside them.

        Raises:
            ValueError: before the first particle.
        """
        if not self.num_particles:
            raise ValueError("No weights were added yet, so there is nothing to report.")
        num = self.num_particles
        with np.errstate(invalid="ignore"):
            ess = np.exp(2 * self._sum - self._squares)
        per_datum = {
            "ELBO": self._logs / num,
            "IWAE": self._sum - math.log(num),
            "IWAE error": relative_error(ess, num),
            "ESS": ess,
        }
        return Report(per_datum | dict(latents or {}), num, notes)
