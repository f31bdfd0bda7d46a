"""Rate and distortion of several runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dgm_core.arguments import refuse
from dgm_core.plots import rate_distortion
from dgm_core.results import format_table
from dgm_core.surgery.checks import check_labels
from dgm_core.surgery.parts import ELBOSurgery

__all__ = ["RateDistortion"]


class RateDistortion:
    """Rate and distortion of several runs, in nats per datum.

    The rate R is the mean KL, the distortion D = -E_q [log p(x | z)], so that ELBO = -(D + R) and
    the runs of one ELBO lie on a line; R is at least the mutual information, and what it has beyond
    is the marginal KL.

    Args:
        surgeries: label -> `ELBOSurgery` with its reconstruction, of the same data.

    Attributes:
        rows: one for each run: "run", "rate", "distortion", "MI", "marginal KL", "ELBO", and the
            standard errors "rate se" and "distortion se".

    Raises:
        ValueError: for what is no such dict, or runs of other numbers of data.

    References:
        Alemi et al. (2018), Fixing a broken ELBO, arXiv:1711.00464.

    Example:
        >>> parts = ELBOSurgery(2.0, 1.5, 0.5, reconstruction=-7.0, num_data=9)
        >>> RateDistortion({"beta 1": parts}).rows[0]["ELBO"]
        -9.0
    """

    def __init__(self, surgeries: Mapping[Any, ELBOSurgery]) -> None:
        if not isinstance(surgeries, Mapping) or not surgeries:
            refuse("surgeries", "a dict of one surgery or more, by label", surgeries)
        check_labels("surgeries", surgeries)
        if len(sizes := {one.num_data for one in surgeries.values()}) > 1:
            raise ValueError(
                f"Runs are compared on the same data, got {sorted(sizes)} data: the mutual "
                "information is bounded by the logarithm of their number."
            )
        self.surgeries = dict(surgeries)
        self.rows = [_row(label, one) for label, one in self.surgeries.items()]

    def column(self, name: str) -> np.ndarray:
        """The numbers of one column, (num_runs,). Raises ValueError for an unknown name."""
        if name not in (known := [n for n in self.rows[0] if n != "run"]):
            refuse("name", f"one of {known}", name)
        return np.array([row[name] for row in self.rows])

    def plot(self) -> Figure:
        """The runs in the plane of rate and distortion, and the lines of equal ELBO."""
        return rate_distortion(
            self.column("rate"), self.column("distortion"), [str(row["run"]) for row in self.rows]
        )

    def __repr__(self) -> str:
        return format_table(self.rows)


def _row(label: Any, one: ELBOSurgery) -> dict[str, Any]:
    elbo = one.elbo  # raises where the distortion is not known
    assert one.reconstruction is not None
    return {
        "run": label if isinstance(label, str) else str(label),
        "rate": one.mean_kl,
        "distortion": -one.reconstruction,
        "MI": one.mutual_information,
        "marginal KL": one.marginal_kl,
        "ELBO": elbo,
        "rate se": one.standard_errors.get("mean_kl"),
        "distortion se": one.standard_errors.get("reconstruction"),
    }
