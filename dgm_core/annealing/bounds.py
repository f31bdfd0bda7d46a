"""What annealed weights say of the evidence: from below, and from above."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dgm_core.diagnostics import Report, effective_sample_size, evidence_error, iwae_bound
from dgm_core.diagnostics.bounds import checked_log_weights

__all__ = ["AnnealedBounds"]

_SLOW = 0.2  # acceptance below which transitions hardly move


class AnnealedBounds(Report):
    """Stochastic bounds on log Z from annealed weights, per datum; printed as a table.

    Forward chains run from the start to the target: E w = Z, so that log (1/M) sum w is below
    log Z in expectation.  Reverse chains run from the target to the start: E 1 / w = 1 / Z, so that
    -log (1/M) sum 1 / w is above it, if they started in the target.  The true value lies between
    the two up to their errors, and their gap bounds the error of either.

    Args:
        forward: log w of the forward chains, (chains, num_data).
        reverse: log w of the reverse chains, likewise; None: there are none.
        exact: whether these started in the target exactly, as for simulated data.
        schedule: the inverse temperatures.
        acceptance: "forward", "reverse" -> of the transitions, in the mean.

    Names:
        "AIS" (from below), "AIS error", "ESS" (of the forward weights) and with reverse chains
        "reverse AIS" (from above), "reverse AIS error" and "gap". The errors are those of the
        chains (`evidence_error`); `standard_error` is that of the mean over the data.

    Attributes:
        forward, reverse, exact, schedule, acceptance: as above.

    Raises:
        ValueError: for weights that are NaN or +inf, and where forward and reverse ones are not
            those of the same data.

    References:
        Neal (2001), Annealed importance sampling, Statistics and Computing 11; Grosse, Ghahramani
        and Adams (2015), arXiv:1511.02543; Grosse, Ancha and Roy (2016), Measuring the reliability
        of MCMC inference with bidirectional Monte Carlo, arXiv:1606.02275.

    Example:
        >>> bounds = AnnealedBounds(np.log([[1.0], [3.0]]), np.log([[2.0], [4.0]]), exact=True)
        >>> bounds.lower.round(4), bounds.upper.round(4)
        (array([0.6931]), array([0.9808]))
    """

    def __init__(
        self,
        forward: Any,
        reverse: Any = None,
        *,
        exact: bool = False,
        schedule: Any = (),
        acceptance: Mapping[str, float] | None = None,
    ) -> None:
        self.forward = _columns("forward", forward)
        self.reverse = None if reverse is None else _columns("reverse", reverse)
        self.exact, self.schedule = bool(exact), np.asarray(schedule, np.float64)
        self.acceptance = {name: float(rate) for name, rate in (acceptance or {}).items()}
        per_datum = {"AIS": iwae_bound(self.forward), "AIS error": evidence_error(self.forward)}
        if self.reverse is not None:
            if self.reverse.shape[1] != self.forward.shape[1]:
                raise ValueError(
                    f"forward has weights of {self.forward.shape[1]} data, but reverse of "
                    f"{self.reverse.shape[1]}."
                )
            per_datum["reverse AIS"] = -iwae_bound(-self.reverse)
            per_datum["reverse AIS error"] = evidence_error(-self.reverse)
            with np.errstate(invalid="ignore"):
                per_datum["gap"] = per_datum["reverse AIS"] - per_datum["AIS"]
        per_datum["ESS"] = effective_sample_size(self.forward)
        super().__init__(per_datum, len(self.forward), self._notes())

    @property
    def lower(self) -> np.ndarray:
        """The stochastic lower bound, (num_data,)."""
        return self["AIS"]

    @property
    def upper(self) -> np.ndarray:
        """The stochastic upper bound, (num_data,); approximate unless `exact`.

        Raises:
            ValueError: without reverse chains.
        """
        if self.reverse is None:
            raise ValueError(
                "There is no upper bound, since no reverse chains were run: leave out "
                "reverse_from=None."
            )
        return self["reverse AIS"]

    @property
    def gap(self) -> np.ndarray:
        """upper - lower, (num_data,)."""
        return self.upper - self.lower

    def _notes(self) -> tuple[str, ...]:
        notes = []
        if self.reverse is not None and not self.exact:
            notes.append(
                "The reverse chains started in approximate draws of the posterior, so that the "
                "upper bound is approximate too: where these miss a mode, both bounds do. On data "
                "that the model makes, bdmc has exact ones."
            )
        notes += [
            f"The transitions of the {name} chains accept {rate:.2g} of their proposals and hardly "
            "move: take more steps, or a kernel with a smaller step size."
            for name, rate in self.acceptance.items()
            if rate < _SLOW
        ]
        return tuple(notes)


def _columns(name: str, log_w: Any) -> np.ndarray:
    log_w = checked_log_weights(log_w)
    if log_w.ndim != 2 or not log_w.size:
        raise ValueError(f"{name} must be (chains, num_data), got shape {log_w.shape}.")
    return log_w
