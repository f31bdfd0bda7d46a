"""What a linear function of the codes knows."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from dgm_core.arguments import check_count, check_seed, refuse
from dgm_core.representation.checks import as_codes, as_labels

__all__ = ["Probe", "linear_probe"]


class Probe(NamedTuple):
    """accuracy, the mean of folds (num_folds,);  standard_error, of the mean over the folds, which
    share training data, so that it is a little too small;  chance, the share of the largest class.
    """

    accuracy: float
    standard_error: float
    chance: float
    folds: np.ndarray

    def __repr__(self) -> str:
        return (
            f"Probe(accuracy {self.accuracy:.4g} +- {self.standard_error:.2g}, {len(self.folds)} "
            f"folds, chance {self.chance:.4g})"
        )


def linear_probe(
    codes: Any, labels: Any, classifier: Any = None, *, num_folds: int = 5, seed: int = 0
) -> Probe:
    """How well labels are predicted from codes by a linear classifier, on data that it was not
    trained on.

    Args:
        codes: (num_data, dim).
        labels: (num_data,), class numbers from 0 on.
        classifier: of scikit-learn; None takes logistic regression of standardized codes.
        num_folds: each is predicted by what was trained on the others; every class needs as many
            data.
        seed: of the folds.

    Raises:
        ValueError: for other shapes, codes that are not finite, labels that are no class numbers,
            a single class, and classes of fewer data than folds.

    Cost:
        num_folds fits.

    References:
        Alain and Bengio (2017), Understanding intermediate layers using linear classifier probes,
        arXiv:1610.01644.

    Example:
        >>> labels = np.arange(60) % 3
        >>> linear_probe(np.eye(3)[labels], labels).accuracy
        1.0
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    codes, num_folds = as_codes(codes), check_count("num_folds", num_folds, 2)
    labels, seed = as_labels("labels", labels, len(codes)), check_seed("seed", seed, 0) % 2**32
    if not (classifier is None or hasattr(classifier, "fit")):
        refuse("classifier", "a classifier of scikit-learn, or None", classifier)
    classes, counts = np.unique(labels, return_counts=True)
    if len(classes) < 2 or counts.min() < num_folds:
        raise ValueError(
            f"labels must be of two classes or more, with {num_folds} data or more each "
            f"(num_folds), got {dict(zip(classes.tolist(), counts.tolist(), strict=True))}."
        )
    if classifier is None:
        classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    split = StratifiedKFold(num_folds, shuffle=True, random_state=seed)
    folds = cross_val_score(classifier, codes, labels, cv=split, error_score="raise")
    error = float(folds.std(ddof=1) / np.sqrt(num_folds))
    return Probe(float(folds.mean()), error, float(counts.max() / len(labels)), folds)
