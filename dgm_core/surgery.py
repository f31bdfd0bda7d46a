"""ELBO surgery: what the KL part of a bound is made of, and how far the aggregate posterior q(z) =
E_data [q(z | x)] is from the prior.

mean KL(q(z | x), p(z)) = I(x; z) + KL(q(z), p(z)): the information that the codes carry, and a
mismatch that costs likelihood and spoils samples.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.special import logsumexp

from dgm_core.arguments import check_count, check_floats
from dgm_core.samples.two_sample import as_points
from dgm_core.structure import Structure

__all__ = ["ELBOSurgery", "check_local", "elbo_surgery", "ratio_kl"]


class ELBOSurgery(NamedTuple):
    """mean_kl = mutual_information + marginal_kl, in nats per datum; the mutual information of N
    data is at most log N.
    """

    mean_kl: float
    mutual_information: float
    marginal_kl: float


def check_local(structure: Structure) -> None:
    """Raises ValueError unless all latents lie in one plate, the only batch dimension, and are the
    model's."""
    if beyond := list(structure.reverse_sites):
        raise ValueError(
            f"elbo_surgery needs the density of the model's latents, but the guide draws {beyond} "
            "beyond them, and q(z | x) is an integral over these: take a guide that does not."
        )
    if structure.global_sites or len(structure.sizes) != 1 or structure.batch_ndim != 1:
        raise ValueError(
            "elbo_surgery needs all latents inside one plate of the data, the only batch "
            f"dimension, got {list(structure.global_sites)} outside and {structure.batch_ndim} "
            "batch dimensions."
        )


def elbo_surgery(log_q: np.ndarray, log_p: np.ndarray) -> ELBOSurgery:
    """The parts of the KL of N data, from one draw z_n ~ q(z | x_n) for each, with q(z) = sum_m q(z
    | x_m) / N.

    mean KL = mean_n [log q(z_n | x_n) - log p(z_n)];  I = mean_n [log q(z_n | x_n) - log q(z_n)];
    KL(q(z), p(z)) = mean_n [log q(z_n) - log p(z_n)].

    Shapes:
        log_q (N, N), log q(z_n | x_m) in row n and column m;  log_p (N,), log p(z_n).

    Raises:
        ValueError: for other shapes, and values that are not finite on the diagonal and in log_p.

    References:
        Hoffman and Johnson (2016), ELBO surgery, NeurIPS workshop on advances in approximate
        Bayesian inference.

    Example:
        >>> elbo_surgery(np.log([[0.8, 0.2], [0.2, 0.8]]), np.log([0.5, 0.5]))
        ELBOSurgery(mean_kl=0.47..., mutual_information=0.47..., marginal_kl=...)
    """
    log_q, log_p = check_floats("log_q", log_q), check_floats("log_p", log_p)
    if log_p.ndim != 1 or log_q.shape != (len(log_p), len(log_p)) or not len(log_p):
        raise ValueError(
            f"log_q must be (N, N) and log_p (N,), got shapes {log_q.shape} and {log_p.shape}."
        )
    own = np.diagonal(log_q)
    if not (np.isfinite(own).all() and np.isfinite(log_p).all()):
        raise ValueError("log q(z_n | x_n) and log p(z_n) must be finite at the guide's own draws.")
    marginal = logsumexp(log_q, axis=1) - np.log(len(log_p))
    return ELBOSurgery(
        float(np.mean(own - log_p)),
        float(np.mean(own - marginal)),
        float(np.mean(marginal - log_p)),
    )


def ratio_kl(
    x: np.ndarray, y: np.ndarray, classifier: Any = None, *, num_folds: int = 5, seed: int = 0
) -> float:
    """KL(P, Q) from samples x ~ P and y ~ Q alone, by the log-odds of a classifier that tells them
    apart: mean of log p/q over held-out x.

    For guides and priors that cannot be scored.  An estimate and no bound: too small where the
    classifier misses a difference.

    Args:
        x, y: samples (num, *event).
        classifier: of scikit-learn, with `decision_function` (log-odds) or `predict_proba`; None
            takes logistic regression on all products of two standardized entries, whose log-odds
            are exact for two Gaussians.
        num_folds: each scored by what was trained on the others.

    Raises:
        ValueError: for different events, fewer than two points per fold, values that are not
            finite, and fewer than two folds.

    References:
        Sugiyama, Suzuki and Kanamori (2012), Density ratio estimation in machine learning, section
        4.

    Example:
        >>> x = np.random.default_rng(0).standard_normal((2, 4000, 1))
        >>> abs(ratio_kl(x[0] + 1, x[1]) - 0.5) < 0.06
        True
    """
    from sklearn.base import clone
    from sklearn.model_selection import StratifiedKFold

    num_folds = check_count("num_folds", num_folds, 2)
    if np.shape(x)[1:] != np.shape(y)[1:]:
        raise ValueError(
            f"Two samples need equal events, got shapes {np.shape(x)} and {np.shape(y)}."
        )
    x, y = as_points(x, "x", 2 * num_folds), as_points(y, "y", 2 * num_folds)
    points, labels = np.concatenate([x, y]), np.arange(len(x) + len(y)) < len(x)
    model, total = _quadratic() if classifier is None else classifier, 0.0
    for train, test in StratifiedKFold(num_folds, shuffle=True, random_state=seed).split(
        points, labels
    ):
        fitted = clone(model).fit(points[train], labels[train])
        prior_odds = np.log(labels[train].sum() / (~labels[train]).sum())
        total += float(np.sum(_log_odds(fitted, points[test[labels[test]]]) - prior_odds))
    return total / len(x)


def _log_odds(fitted: Any, x: np.ndarray) -> np.ndarray:
    if hasattr(fitted, "decision_function"):
        return fitted.decision_function(x)
    p = np.clip(fitted.predict_proba(x)[:, 1], 1e-12, 1 - 1e-12)
    return np.log(p) - np.log1p(-p)


def _quadratic() -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures, StandardScaler

    return make_pipeline(
        StandardScaler(),
        PolynomialFeatures(2, include_bias=False),
        LogisticRegression(C=1e3, max_iter=2000),
    )
