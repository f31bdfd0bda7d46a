"""Do two samples come from the same distribution? For models that can be sampled and not scored.

All tests take arrays (num_x, *event) and (num_y, *event), compare flattened points, and give
p-values that are valid for every sample size: under the null hypothesis P(p <= a) <= a, whatever
the distribution.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.spatial.distance import cdist
from scipy.stats import hypergeom

from dgm_core.arguments import check_count, check_floats, check_number, check_numbers, check_seed

__all__ = [
    "ClassifierTest",
    "PermutationTest",
    "as_points",
    "classifier_test",
    "energy_test",
    "mmd_test",
]


class PermutationTest(NamedTuple):
    """The statistic of two samples, its p-value, and its values `null` (num_permutations,) after
    random exchanges of points between them.
    """

    statistic: float
    p_value: float
    null: np.ndarray


class ClassifierTest(NamedTuple):
    """How well a classifier tells two samples apart on held-out points: its balanced accuracy (1/2
    is chance) and the p-value of that.
    """

    accuracy: float
    p_value: float


def mmd_test(
    x: np.ndarray,
    y: np.ndarray,
    length_scales: float | Sequence[float] | None = None,
    *,
    num_permutations: int = 1000,
    seed: int | np.random.Generator = 0,
) -> PermutationTest:
    """A permutation test with the unbiased MMD^2 of a mixture of Gaussian kernels, mean_j exp(-|x -
    y|^2 / (2 l_j^2)).

    Args:
        x, y: the samples.
        length_scales: l_j; None takes the median distance of all points of both samples times 1/4,
            1/2, 1, 2 and 4.
        num_permutations: random exchanges; the smallest possible p-value is 1 / (num_permutations +
            1).
        seed: of the exchanges.

    Cost:
        (num_x + num_y)^2 kernel values in memory, and one product of that matrix with (num_x +
        num_y, num_permutations).

    Raises:
        ValueError: for fewer than two points of a sample, different events, values that are not
            finite, and bad arguments.

    References:
        Gretton et al. (2012), A kernel two-sample test, JMLR 13.

    Example:
        >>> x = np.linspace(-1, 1, 20)
        >>> mmd_test(x, x + 2).p_value < 0.01
        True
    """
    pooled, num_x = _pooled(x, y)
    squared = cdist(pooled, pooled, "sqeuclidean")
    if length_scales is None:
        others = np.sort(squared[np.triu_indices(len(pooled), 1)])
        median = np.sqrt(others[(len(others) - 1) // 2]) or 1.0
        length_scales = [multiple * median for multiple in (0.25, 0.5, 1.0, 2.0, 4.0)]
    scales = check_numbers("length_scales", length_scales, above=0)
    gram = sum(np.exp(squared / (-2 * scale**2)) for scale in scales) / len(scales)
    return _permutation_test(gram, num_x, num_permutations, seed)


def energy_test(
    x: np.ndarray,
    y: np.ndarray,
    beta: float = 1.0,
    *,
    num_permutations: int = 1000,
    seed: int | np.random.Generator = 0,
) -> PermutationTest:
    """A permutation test with the unbiased energy distance, 2 E |X - Y|^beta - E |X - X'|^beta - E
    |Y - Y'|^beta.

    Args:
        x, y: the samples.
        beta: in (0, 2).
        num_permutations, seed: as in `mmd_test`.  Cost: as `mmd_test`.

    Raises:
        ValueError: for beta outside (0, 2), and as `mmd_test`.

    References:
        Szekely and Rizzo (2013), Energy statistics, J. Stat. Plan. Inference 143.

    Example:
        >>> energy_test([0.0, 0.0], [3.0, 3.0], num_permutations=1).statistic
        6.0
    """
    beta = check_number("beta", beta, above=0, below=2)
    pooled, num_x = _pooled(x, y)
    return _permutation_test(-(cdist(pooled, pooled) ** beta), num_x, num_permutations, seed)


def classifier_test(
    x: np.ndarray, y: np.ndarray, classifier: Any = None, *, test_share: float = 0.5, seed: int = 0
) -> ClassifierTest:
    """A classifier two-sample test: train on a part of both samples to tell them apart, count the
    hits on the rest.

    The p-value is exact: with the classifier's answers given, under the null hypothesis the
    held-out labels are in random order, and the number of hits is hypergeometric. With samples of
    equal size 2 accuracy - 1 estimates a lower bound of their total variation distance.

    Args:
        x, y: the samples.
        classifier: a scikit-learn classifier; None takes a neural network with two hidden layers of
            64 units on standardized inputs.
        test_share: the share of points that are held out, in (0, 1).
        seed: of the split, and of the default classifier.

    Raises:
        ValueError: for fewer than ten points of a sample, different events, values that are not
            finite, and test_share outside (0, 1).

    References:
        Lopez-Paz and Oquab (2017), Revisiting classifier two-sample tests, arXiv:1610.06545.

    Example:
        >>> x = np.linspace(-1, 1, 200)
        >>> classifier_test(x, x + 3).accuracy > 0.9
        True
    """
    from sklearn.base import clone
    from sklearn.model_selection import train_test_split

    test_share = check_number("test_share", test_share, above=0, below=1)
    pooled, num_x = _pooled(x, y, least=10)
    labels = np.arange(len(pooled)) < num_x
    x_train, x_test, is_train, is_test = train_test_split(
        pooled, labels, test_size=test_share, stratify=labels, random_state=seed
    )
    classifier = _default_classifier(seed) if classifier is None else clone(classifier)
    answers = np.asarray(classifier.fit(x_train, is_train).predict(x_test), bool)
    hits = int(np.sum(answers & is_test))
    accuracy = (hits / is_test.sum() + np.sum(~answers & ~is_test) / np.sum(~is_test)) / 2
    return ClassifierTest(
        float(accuracy), float(hypergeom.sf(hits - 1, len(is_test), is_test.sum(), answers.sum()))
    )


def as_points(x: np.ndarray, name: str, least: int = 1) -> np.ndarray:
    """(num, *event) -> (num, dim) in float64.

    Raises:
        ValueError: calling the array by `name`, for fewer than `least` points and for values that
            are not finite.
    """
    x = check_floats(name, x)
    if x.ndim == 0 or len(x) < least:
        raise ValueError(
            f"{name} must be (num, *event) with at least {least} points, got shape {x.shape}."
        )
    if bad := int(np.sum(~np.isfinite(x))):
        raise ValueError(f"{name} must be finite, got {bad} values that are not.")
    return x.reshape(len(x), -1)


def _pooled(x: np.ndarray, y: np.ndarray, least: int = 2) -> tuple[np.ndarray, int]:
    """All points, those of x first, and the number of those."""
    if np.shape(x)[1:] != np.shape(y)[1:]:
        raise ValueError(
            f"Two samples need equal events, got shapes {np.shape(x)} and {np.shape(y)}."
        )
    x, y = as_points(x, "x", least), as_points(y, "y", least)
    return np.concatenate([x, y]), len(x)


def _permutation_test(
    gram: np.ndarray, num_x: int, num_permutations: int, seed: int | np.random.Generator
) -> PermutationTest:
    """MMD^2 with the kernel matrix `gram` of all points, for the given labels and for
    random ones.
    """
    num_permutations = check_count("num_permutations", num_permutations)
    rng = np.random.default_rng(
        seed if isinstance(seed, np.random.Generator) else check_seed("seed", seed, 0)
    )
    given = np.arange(len(gram)) < num_x
    is_x = np.stack([given, *(rng.permutation(given) for _ in range(num_permutations))], 1).astype(
        np.float64
    )  # (points, 1 + num_permutations)
    gram = gram - np.diag(np.diag(gram))
    row_sums = gram.sum(0)
    xx, with_x = (is_x * (gram @ is_x)).sum(0), row_sums @ is_x
    xy, yy = with_x - xx, row_sums.sum() - 2 * with_x + xx
    num_y = len(gram) - num_x
    values = xx / (num_x * (num_x - 1)) + yy / (num_y * (num_y - 1)) - 2 * xy / (num_x * num_y)
    statistic, null = float(values[0]), values[1:]
    as_large = (
        null >= statistic - 1e-12 * np.abs(gram).max()
    )  # exchanges that change nothing tie, up to rounding
    return PermutationTest(statistic, (1 + int(as_large.sum())) / (1 + num_permutations), null)


def _default_classifier(seed: int) -> Any:
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(
        StandardScaler(),
        MLPClassifier((64, 64), early_stopping=True, max_iter=1000, random_state=seed),
    )
