"""Disentanglement, completeness and informativeness."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from dgm_core.arguments import check_floats, check_number, check_seed, refuse
from dgm_core.representation.checks import as_codes, as_factors

__all__ = ["DCI", "dci", "dci_of"]


class DCI(NamedTuple):
    """disentanglement, whether an entry of the code knows one factor only (per_entry, (dim,), and
    their mean weighted by importance);  completeness, whether a factor is known to one entry only
    (per_factor, (num_factors,), and their mean);  informativeness, how well each factor is
    predicted from held-out codes (num_factors,), None where it was not tried;  importance (dim,
    num_factors).
    """

    disentanglement: float
    completeness: float
    informativeness: np.ndarray | None
    per_entry: np.ndarray
    per_factor: np.ndarray
    importance: np.ndarray

    def __repr__(self) -> str:
        known = self.informativeness
        last = "" if known is None else f", informativeness {known.mean():.4g}"
        return (
            f"DCI(disentanglement {self.disentanglement:.4g}, completeness "
            f"{self.completeness:.4g}{last})"
        )


def dci_of(importance: Any) -> DCI:
    """The scores of a matrix R of importances, (dim, num_factors).

    D_i = 1 - H_K(R_i. / sum_k R_ik), with the entropy to the base of the number K of factors, and
    D = sum_i rho_i D_i with rho_i the share of entry i in all importance;  C_k = 1 - H_D(R_.k /
    sum_i R_ik) to the base of the number of entries, and C their mean.

    Raises:
        ValueError: for fewer than two entries or factors, importances that are negative or not
            finite, and a factor without any.

    Example:
        >>> dci_of([[1.0, 0.0], [0.0, 3.0]]).disentanglement
        1.0
    """
    r = check_floats("importance", importance)
    if r.ndim != 2 or min(r.shape) < 2:
        raise ValueError(
            "importance must be (dim, num_factors) with two entries and two factors or more (of "
            f"one there is nothing to be told apart), got shape {r.shape}."
        )
    if not np.isfinite(r).all() or (r < 0).any():
        raise ValueError("importance must be finite and not negative.")
    if none := [k for k in range(r.shape[1]) if not r[:, k].sum() > 0]:
        raise ValueError(
            f"No entry of the code matters for the factors {none}: their predictors found nothing, "
            "so that there is no completeness."
        )
    per_entry = np.array([1 - _entropy(row) for row in r])
    per_factor = np.array([1 - _entropy(column) for column in r.T])
    shares = r.sum(1) / r.sum()
    return DCI(float(shares @ per_entry), float(per_factor.mean()), None, per_entry, per_factor, r)


def dci(
    codes: Any,
    factors: Any,
    predictor: Any = None,
    *,
    held_out: float = 0.3,
    seed: int = 0,
) -> DCI:
    """Disentanglement, completeness and informativeness of codes with known factors: one predictor
    of each factor from the whole code, and how important each entry is to it.

    The scores are those of the predictor as well: linear ones miss what is folded, and forests
    spread importance over entries that say the same.

    Args:
        codes: (num_data, dim).
        factors: (num_data, num_factors): class numbers where the array holds integers, else real
            numbers.
        predictor: of scikit-learn, with `feature_importances_` or `coef_` after `fit`, one for all
            factors; None takes random forests, of classes or of
            numbers, whose splits choose among all entries.
        held_out: the share of the data on which predictors are scored: accuracy of classes, R^2 of
            numbers.
        seed: of the split and of the forests.

    Raises:
        ValueError: as `dci_of`; for other shapes, values that are not finite, factors with one
            value only, and a predictor without importances.

    Cost:
        a fit of the predictor for each factor.

    References:
        Eastwood and Williams (2018), A framework for the quantitative evaluation of disentangled
        representations, ICLR.

    Example:
        >>> v = np.random.default_rng(0).integers(0, 3, (200, 2))
        >>> found = dci(v, v)
        >>> bool(found.disentanglement > 0.8), found.informativeness
        (True, array([1., 1.]))
    """
    from sklearn.base import clone
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
    from sklearn.model_selection import train_test_split

    codes = as_codes(codes)
    columns = as_factors(factors, len(codes))
    held_out = check_number("held_out", held_out, above=0, below=1)
    seed = check_seed("seed", seed, 0) % 2**32
    if not (predictor is None or hasattr(predictor, "fit")):
        refuse("predictor", "an estimator of scikit-learn, or None", predictor)
    if min(codes.shape[1], len(columns)) < 2:
        dci_of(np.ones((codes.shape[1], len(columns))))  # says what is missing
    train, test = train_test_split(np.arange(len(codes)), test_size=held_out, random_state=seed)
    importance, scores = [], []
    for column in columns:
        forest = RandomForestClassifier if column.dtype.kind == "i" else RandomForestRegressor
        model = (
            forest(random_state=seed, max_features=None) if predictor is None else clone(predictor)
        )
        model.fit(codes[train], column[train])
        importance.append(_importance(model))
        scores.append(model.score(codes[test], column[test]))
    return dci_of(np.stack(importance, 1))._replace(informativeness=np.array(scores))


def _importance(model: Any) -> np.ndarray:
    if hasattr(model, "feature_importances_"):
        return np.asarray(model.feature_importances_)
    if hasattr(model, "coef_"):
        return np.abs(np.atleast_2d(model.coef_)).mean(0)  # over classes
    refuse("predictor", "an estimator with feature_importances_ or coef_ after fit", model)


def _entropy(weights: np.ndarray) -> float:
    """Of the shares, to the base of their number; 1 where all weights are zero."""
    if not weights.sum() > 0:
        return 1.0
    p = weights / weights.sum()
    p = p[p > 0]
    return float(-(p * np.log(p)).sum() / np.log(len(weights)))
