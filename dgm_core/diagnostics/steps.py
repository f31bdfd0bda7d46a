"""Results of sequences per time step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dgm_core.arguments import check_floats, refuse

__all__ = ["per_step"]

_IN_NATS = ("ELBO", "IWAE", "JVI-1", "JVI-2")


def per_step(report: Mapping[str, Any], lengths: Any) -> dict[str, tuple[float, float]]:
    """What a report says of sequences, in nats per time step, as it is published: the sum over all
    sequences by the sum of their lengths, and its standard error over sequences.

    Args:
        report: of `summary` or `log_likelihood`, or arrays (num_data,) by name. Of a report the
            bounds and KLs are taken, of a plain dict everything.
        lengths: (num_data,), the steps of each sequence.

    Returns:
        name -> (mean, standard error); that of a single sequence is NaN.

    Raises:
        ValueError: for lengths that are no integers of at least 0, or not one for each sequence.

    Example:
        >>> found = per_step({"ELBO": np.array([-6.0, -3.0])}, np.array([4, 2]))
        >>> found["ELBO"]
        (-1.5, 0.0)
    """
    lengths = np.asarray(lengths)
    if lengths.dtype.kind not in "iu" or lengths.ndim != 1 or np.any(lengths < 0):
        refuse("lengths", "integers of at least 0, of shape (num_data,)", lengths)
    if not lengths.sum():
        raise ValueError("The sequences have no steps, all lengths are 0.")
    names = list(report)
    if not isinstance(report, dict):
        names = [name for name in names if name in _IN_NATS or name.startswith("KL ")]
    found = {}
    for name in names:
        values = check_floats(name, report[name])
        if values.shape != lengths.shape:
            refuse(name, f"one number for each of the {len(lengths)} sequences", values)
        mean = values.sum() / lengths.sum()
        rest = values - mean * lengths  # of a ratio of two means
        spread = len(rest) * (rest**2).sum() / max(len(rest) - 1, 1)
        error = np.sqrt(spread) / lengths.sum() if len(rest) > 1 else np.nan
        found[name] = (float(mean), float(error))
    return found
