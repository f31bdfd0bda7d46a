"""KL divergences from samples alone, by a classifier that tells them apart."""

from __future__ import annotations

from typing import Any

import numpy as np

from dgm_core.arguments import check_count
from dgm_core.samples.two_sample import as_points

__all__ = ["ratio_kl"]


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
