"""The parts of the KL of a bound, from log-densities of draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from dgm_core.arguments import check_floats
from dgm_core.results import format_table
from dgm_core.surgery.aggregate import log_aggregate

__all__ = ["ELBOSurgery", "Scores", "elbo_surgery", "parts_of"]


class ELBOSurgery(NamedTuple):
    """What a bound is made of, in nats per datum:

    ELBO = reconstruction - mean_kl,  mean_kl = mutual_information + marginal_kl,  marginal_kl =
    total_correlation + dimension_wise_kl.

    The mutual information of N data is at most log N. What was not asked for or is not known is
    None, and `notes` say why.

    Attributes:
        reconstruction: E_q [log p(x | z)].
        entry_kl: KL(q(z_d), p(z_d)) of each entry d of the latents, side by side in the order of
            the model; their sum is dimension_wise_kl.
        standard_errors: of each part by its name: the standard deviation over the data, each
            averaged over its draws, divided by sqrt(N).  That the data also make up q(z) changes
            them in second order only.
        num_data, aggregate: N, and how q(z) was estimated.

    References:
        Hoffman and Johnson (2016), ELBO surgery, NeurIPS workshop on advances in approximate
        Bayesian inference; Chen, Li, Grosse and Duvenaud (2018), arXiv:1802.04942.
    """

    mean_kl: float
    mutual_information: float
    marginal_kl: float
    total_correlation: float | None = None
    dimension_wise_kl: float | None = None
    reconstruction: float | None = None
    entry_kl: np.ndarray | None = None
    standard_errors: Mapping[str, float] = {}
    num_data: int = 0
    aggregate: str = "exact"
    notes: tuple[str, ...] = ()

    @property
    def elbo(self) -> float:
        """reconstruction - mean_kl. Raises ValueError where the first is not known."""
        if self.reconstruction is None:
            raise ValueError("There is no ELBO without the reconstruction: pass log_likelihood.")
        return self.reconstruction - self.mean_kl

    def __repr__(self) -> str:
        names: tuple[str, ...] = ("reconstruction", "mean_kl", "mutual_information", "marginal_kl")
        names += ("total_correlation", "dimension_wise_kl")
        found = {name: getattr(self, name) for name in names}
        rows = [
            {"part": name, "nats": value, "standard error": self.standard_errors.get(name)}
            for name, value in found.items()
            if value is not None
        ]
        head = f"ELBOSurgery of {self.num_data} data, {self.aggregate} aggregate posterior"
        return "\n".join([head, format_table(rows), *self.notes])


class Scores(NamedTuple):
    """Log-densities of a draw z_n ~ q(z | x_n) for each of some rows n of the data.

    own, log q(z_n | x_n);  marginal, log q(z_n);  log_p, log p(z_n);  log_likelihood, log p(x_n |
    z_n), each (rows,);  marginal_entries and log_p_entries, those of each entry, (rows, entries).
    """

    rows: np.ndarray
    own: np.ndarray
    marginal: np.ndarray
    log_p: np.ndarray
    log_likelihood: np.ndarray | None = None
    marginal_entries: np.ndarray | None = None
    log_p_entries: np.ndarray | None = None


def elbo_surgery(
    log_q: np.ndarray,
    log_p: np.ndarray,
    *,
    log_likelihood: np.ndarray | None = None,
    log_q_entries: np.ndarray | None = None,
    log_p_entries: np.ndarray | None = None,
) -> ELBOSurgery:
    """The parts of the KL of N data, from one draw z_n ~ q(z | x_n) for each, with q(z) = sum_m q(z
    | x_m) / N.

    mean KL = mean_n [log q(z_n | x_n) - log p(z_n)];  I = mean_n [log q(z_n | x_n) - log q(z_n)];
    KL(q(z), p(z)) = mean_n [log q(z_n) - log p(z_n)];  total correlation = mean_n [log q(z_n) -
    sum_d log q(z_nd)];  dimension-wise KL = mean_n sum_d [log q(z_nd) - log p(z_nd)].

    Args:
        log_q: (N, N), log q(z_n | x_m) in row n and column m.
        log_p: (N,), log p(z_n).
        log_likelihood: (N,), log p(x_n | z_n).
        log_q_entries: (N, N, entries), log q(z_nd | x_m), of a guide whose entries are independent
            given x: their sum over the entries is log_q.
        log_p_entries: (N, entries), log p(z_nd), likewise.

    Raises:
        ValueError: for other shapes, values that are not finite on the diagonal and in log_p, and
            entries that do not add up.

    References:
        Hoffman and Johnson (2016), ELBO surgery, NeurIPS workshop on advances in approximate
        Bayesian inference; Chen et al. (2018), arXiv:1802.04942.

    Example:
        >>> found = elbo_surgery(np.log([[0.8, 0.2], [0.2, 0.8]]), np.log([0.4, 0.6]))
        >>> round(found.mutual_information, 4), round(found.marginal_kl, 4)
        (0.47, 0.0204)
    """
    log_q, log_p = check_floats("log_q", log_q), check_floats("log_p", log_p)
    num = len(log_p) if log_p.ndim == 1 else 0
    if log_q.shape != (num, num) or not num:
        raise ValueError(
            f"log_q must be (N, N) and log_p (N,), got shapes {log_q.shape} and {log_p.shape}."
        )
    if log_likelihood is not None:
        log_likelihood = _checked("log_likelihood", log_likelihood, (num,))
    own, marginals = np.arange(num), None
    if log_q_entries is not None:
        entries = np.shape(log_q_entries)[-1:]
        log_q_entries = _checked("log_q_entries", log_q_entries, (num, num, *entries), "log_q")
        _check_sum("log_q_entries", log_q_entries, log_q)
        marginals = log_aggregate(log_q_entries, own, num)
    if log_p_entries is not None:
        if log_q_entries is None:
            raise ValueError("log_p_entries are compared with log_q_entries, which are missing.")
        shape = (num, log_q_entries.shape[-1])
        log_p_entries = _checked("log_p_entries", log_p_entries, shape)
        _check_sum("log_p_entries", log_p_entries, log_p)
    scores = Scores(
        own,
        np.diagonal(log_q),
        log_aggregate(log_q, own, num),
        log_p,
        log_likelihood,
        marginals,
        log_p_entries,
    )
    return parts_of([scores], num)


def parts_of(
    scores: Sequence[Scores], num_data: int, aggregate: str = "exact", notes: Sequence[str] = ()
) -> ELBOSurgery:
    """The parts from the scores of blocks of data, as many draws of each datum.

    Raises:
        ValueError: for log-densities of the draws that are not finite.
    """
    order = np.argsort(np.concatenate([one.rows for one in scores]), kind="stable")

    def draws(name: str) -> np.ndarray | None:
        found = [getattr(one, name) for one in scores]
        if any(x is None for x in found):
            return None
        x = np.concatenate(found).astype(np.float64)[order]
        return x.reshape(num_data, -1, *x.shape[1:])  # (num_data, num_draws, *entries)

    own, marginal, log_p = draws("own"), draws("marginal"), draws("log_p")
    assert own is not None and marginal is not None and log_p is not None
    if not (np.isfinite(own).all() and np.isfinite(log_p).all()):
        raise ValueError("log q(z_n | x_n) and log p(z_n) must be finite at the guide's own draws.")
    terms = {
        "mean_kl": own - log_p,
        "mutual_information": own - marginal,
        "marginal_kl": marginal - log_p,
    }
    fits, marginals, priors = map(draws, ("log_likelihood", "marginal_entries", "log_p_entries"))
    if fits is not None:
        terms["reconstruction"] = fits
    if marginals is not None:
        terms["total_correlation"] = marginal - marginals.sum(-1)
    entry_kl = None
    if marginals is not None and priors is not None:
        terms["dimension_wise_kl"] = (marginals - priors).sum(-1)
        entry_kl = (marginals - priors).mean((0, 1))
    means = {name: x.mean(1) for name, x in terms.items()}
    return ELBOSurgery(
        **{name: float(x.mean()) for name, x in means.items()},
        entry_kl=entry_kl,
        standard_errors={name: _standard_error(x) for name, x in means.items()},
        num_data=num_data,
        aggregate=aggregate,
        notes=tuple(notes),
    )


def _standard_error(x: np.ndarray) -> float:
    """Of the mean of some numbers; of a single one nothing is known."""
    return float(x.std(ddof=1) / np.sqrt(len(x))) if len(x) > 1 else np.inf


def _checked(name: str, x: np.ndarray, shape: tuple[int, ...], beside: str = "log_p") -> np.ndarray:
    x = check_floats(name, x)
    if x.shape != shape:
        raise ValueError(f"{name} must have shape {shape} beside {beside}, got {x.shape}.")
    if np.isnan(x).any():
        raise ValueError(f"{name} must be numbers, got {int(np.isnan(x).sum())} NaN.")
    return x


def _check_sum(name: str, entries: np.ndarray, total: np.ndarray) -> None:
    if not np.allclose(entries.sum(-1), total, rtol=1e-4, atol=1e-3):
        raise ValueError(
            f"{name} must add up to the joint log-density: the entries are not independent, and "
            "their densities cannot be had from each alone."
        )
