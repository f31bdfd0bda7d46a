"""How the draws of a block of data are scored under all its data, some at a time."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from dgm_core.surgery.aggregate import log_aggregate
from dgm_core.surgery.parts import Scores

__all__ = ["Codes", "check_rows", "scores_of"]

_NUMBERS = 2**22  # log-densities that are held at once


class Codes(Protocol):
    """A draw z_n ~ q(z | x_n) for each datum of a block, and its densities as numpy arrays.

    log_p, log p(z_n) and log_likelihood, log p(x_n | z_n), both (num_data,);  log_p_entries
    (num_data, entries), or None where the prior's entries are not independent;  num_entries, of all
    latents of a datum.
    """

    log_p: np.ndarray
    log_likelihood: np.ndarray
    num_entries: int

    @property
    def log_p_entries(self) -> np.ndarray | None:
        """See above."""

    def pairs(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray | None]:
        """log q(z_n | x_m) of the draws from start to stop under all data of the block, (draws,
        num_data), and those of each entry (draws, num_data, entries), None where these are not
        independent given x."""


def check_rows(num_rows: int | None, num_data: int) -> None:
    """Raises ValueError where the data cannot be cut into minibatches."""
    if num_rows != num_data:
        raise ValueError(
            f"Minibatches are rows of the data, but the plate holds {num_data} data and the "
            f"arguments have {num_rows} rows: take aggregate='exact'."
        )


def scores_of(codes: Codes, rows: np.ndarray, num_data: int, aggregate: str) -> Scores:
    """The scores of a block whose data are these rows of all, with q(z) from the block."""
    size = len(rows)
    at_once = max(1, _NUMBERS // (size * max(1, codes.num_entries)))
    own, marginals, entries = [], [], []
    for start in range(0, size, at_once):
        place = np.arange(start, min(start + at_once, size))
        log_q, each = codes.pairs(start, place[-1] + 1)
        log_q = log_q.astype(np.float64)
        own.append(log_q[place - start, place])
        marginals.append(log_aggregate(log_q, place, num_data, aggregate))
        if each is not None:
            entries.append(log_aggregate(each.astype(np.float64), place, num_data, aggregate))
    return Scores(
        rows,
        np.concatenate(own),
        np.concatenate(marginals),
        codes.log_p,
        codes.log_likelihood,
        np.concatenate(entries) if entries else None,
        codes.log_p_entries if entries else None,
    )
