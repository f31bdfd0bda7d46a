"""How good samples are: do they lie where the data lie, and do they cover all of it? For models
that can be sampled and not scored.

Distances mean something only in a space where they do: pixels of small images, or features of a
network. `FeatureClassifier` gives features that were learned on the data set at hand; numbers from
it cannot be compared with published ones, which use a network trained on ImageNet.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.spatial.distance import cdist
from scipy.special import xlogy

from dgm_core.arguments import check_count, check_number, check_seed, check_sizes
from dgm_core.samples.two_sample import as_points

__all__ = [
    "FeatureClassifier",
    "ModeCounts",
    "NeighbourScores",
    "classifier_score",
    "frechet_distance",
    "mode_counts",
    "neighbor_scores",
]

_BLOCK = 1024  # rows of a distance matrix that are held at a time


class NeighbourScores(NamedTuple):
    """precision, density: do samples lie where data are?  recall, coverage: do samples reach all
    data?
    """

    precision: float
    recall: float
    density: float
    coverage: float


class ModeCounts(NamedTuple):
    """found: the number of modes with samples;  share: of all samples near a mode;  counts
    (num_modes,): the samples near each.
    """

    found: int
    share: float
    counts: np.ndarray


def neighbor_scores(real: np.ndarray, fake: np.ndarray, k: int = 5) -> NeighbourScores:
    """Precision, recall, density and coverage from balls around points that reach to their k-th
    nearest neighbor in their own sample.

    precision: the share of samples inside any ball of the data;  recall: the share of data inside
    any ball of the samples; density: the number of the data's balls that a sample lies in, divided
    by k (may exceed 1);  coverage: the share of the data's balls with a sample inside. For equal
    distributions density is 1 in expectation, and coverage 1 - (N-1)...(N-k) / ((M+N-1)...(M+N-k))
    for N data and M samples, about 1 - 2^-k. Precision and recall rise with outliers, whose balls
    are large; density and coverage do not.

    Args:
        real, fake: data and samples (num, *event).
        k: of the nearest neighbor, itself not counted.

    Cost:
        num_real^2 + num_fake^2 + num_real num_fake distances, 1024 rows at a time.

    Raises:
        ValueError: unless there are more than k points of each, for different events and values
            that are not finite.

    References:
        Kynkaanniemi et al. (2019), arXiv:1904.06991; Naeem et al. (2020), arXiv:2002.09797, section
        3.

    Example:
        >>> x = np.arange(10.0)
        >>> neighbor_scores(x, x, k=2)
        NeighbourScores(precision=1.0, recall=1.0, density=1.5, coverage=1.0)
    """
    k = check_count("k", k)
    real, fake = as_points(real, "real", k + 1), as_points(fake, "fake", k + 1)
    _check_equal_events(real, fake)
    real_radius, fake_radius = _radii(real, k), _radii(fake, k)
    num_balls, covered, reached = [], np.zeros(len(real), bool), np.zeros(len(real), bool)
    for rows, distance in _blocks(fake, real):
        inside = distance <= real_radius
        num_balls.append(inside.sum(1))
        covered |= inside.any(0)
        reached |= (distance <= fake_radius[rows, None]).any(0)
    balls = np.concatenate(num_balls)
    return NeighbourScores(
        float(np.mean(balls > 0)),
        float(reached.mean()),
        float(balls.mean() / k),
        float(covered.mean()),
    )


def mode_counts(
    x: np.ndarray, modes: np.ndarray, sd: float, radius: float = 3.0, least: int = 1
) -> ModeCounts:
    """How many modes of a mixture of round Gaussians have samples, and how many samples lie near a
    mode: within `radius` standard deviations of the nearest.

    Args:
        x: the samples (num, dim).
        modes: the means (num_modes, dim).
        sd: their standard deviation.
        radius: of the neighborhoods.
        least: the samples that make a mode found. In two dimensions the mixture itself has a share
            of 1 - exp(-radius^2 / 2), 0.989 for 3.

    Raises:
        ValueError: for different dimensions, values that are not finite, and sd, radius or least
            that are not positive.

    References:
        Srivastava et al. (2017), VEEGAN, arXiv:1705.07761, section 5.1.

    Example:
        >>> mode_counts([[0.1], [0.2], [9.0]], [[0.0], [1.0]], sd=0.1)
        ModeCounts(found=1, share=0.6666666666666666, counts=array([2, 0]))
    """
    sd, radius = check_number("sd", sd, above=0), check_number("radius", radius, above=0)
    least = check_count("least", least)
    x, modes = as_points(x, "x"), as_points(modes, "modes")
    _check_equal_events(x, modes)
    nearest = [(distance.argmin(1), distance.min(1)) for _, distance in _blocks(x, modes)]
    index, distance = (np.concatenate(parts) for parts in zip(*nearest))
    near = distance <= radius * sd
    counts = np.bincount(index[near], minlength=len(modes))
    return ModeCounts(int(np.sum(counts >= least)), float(near.mean()), counts)


def frechet_distance(real: np.ndarray, fake: np.ndarray) -> float:
    """|m - m'|^2 + tr(S + S' - 2 (S S')^(1/2)): the squared W2 distance of two Gaussians with the
    samples' means m and covariances S.

    In the space that it is given: of features of a classifier for the data at hand, say. Not the
    "FID", which is this number for one network trained on ImageNet. Too large for few points (the
    bias falls as 1 / num), so compare samples of equal size, and with the number between two halves
    of the data.

    Args:
        real, fake: features (num, dim).

    Raises:
        ValueError: for fewer than two points, different dimensions and values that are not finite.

    References:
        Dowson and Landau (1982), J. Multivariate Anal. 12; Heusel et al. (2017), arXiv:1706.08500.

    Example:
        >>> round(frechet_distance([[-1.0], [1.0]], [[1.0], [7.0]]), 6)  # (4 - 0)^2 + 2 (3 - 1)^2
        24.0
    """
    real, fake = as_points(real, "real", 2), as_points(fake, "fake", 2)
    _check_equal_events(real, fake)
    first, second = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (real, fake))
    # tr (S S')^(1/2) is the sum of the singular values of S^(1/2) S'^(1/2), also where a covariance
    # is singular.
    cross = np.linalg.svd(_square_root(first) @ _square_root(second), compute_uv=False).sum()
    shift = np.sum((real.mean(0) - fake.mean(0)) ** 2)
    return float(max(shift + np.trace(first) + np.trace(second) - 2 * cross, 0.0))


def classifier_score(probabilities: np.ndarray) -> float:
    """exp(E_x KL(p(y | x), p(y))), between 1 and the number of classes: high when each sample is
    clearly of one class and all classes occur.

    Of a classifier for the data at hand; the "Inception score" is this number for one network
    trained on ImageNet. It does not see whether a class has more than one sample: read it beside
    recall and coverage.

    Args:
        probabilities: p(y | x) of each sample (num, num_classes).

    Raises:
        ValueError: unless the rows are probabilities.

    References:
        Salimans et al. (2016), arXiv:1606.03498, section 4.

    Example:
        >>> classifier_score(np.eye(4))
        4.0
    """
    p = as_points(probabilities, "probabilities")
    if (p < 0).any() or not np.allclose(p.sum(1), 1, atol=1e-4):
        raise ValueError(
            "probabilities must be rows that are not negative and sum to one, got sums from "
            f"{p.sum(1).min()} to {p.sum(1).max()}."
        )
    p = p / p.sum(1, keepdims=True)
    marginal = p.mean(0)
    return float(np.exp(np.sum(xlogy(p, p)) / len(p) - np.sum(xlogy(marginal, marginal))))


class FeatureClassifier:
    """A small neural network trained to tell the classes of a data set apart, for
    `frechet_distance` and `classifier_score`.

    Args:
        x: data (num, *event).
        labels: num,.
        hidden: the sizes of the layers, of which the last gives the features.
        num_epochs: passes through the points.
        seed: .

    Attributes:
        held_out_accuracy: on a tenth of the data.

    Raises:
        ValueError: for data and labels of different number, fewer than two classes and values that
            are not finite.

    Example:
        >>> x = np.repeat(np.eye(3), 40, axis=0)
        >>> network = FeatureClassifier(x, x.argmax(1), hidden=(16, 8), num_epochs=200)
        >>> network.features(x).shape, network.held_out_accuracy
        ((120, 8), 1.0)
    """

    def __init__(
        self,
        x: np.ndarray,
        labels: np.ndarray,
        *,
        hidden: Sequence[int] = (128, 64),
        num_epochs: int = 60,
        seed: int = 0,
    ) -> None:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.model_selection import train_test_split
        from sklearn.neural_network import MLPClassifier

        hidden = check_sizes("hidden", hidden, least=1)
        num_epochs, seed = check_count("num_epochs", num_epochs), check_seed("seed", seed, 0)
        points, labels = as_points(x, "x", 2), np.asarray(labels)
        if labels.shape != (len(points),) or len(np.unique(labels)) < 2:
            raise ValueError(
                f"labels must be one for each of {len(points)} data, of two classes or more, "
                "got "
                f"shape {labels.shape}."
            )
        self.event_shape = np.shape(x)[1:]
        self.mean, self.scale = (
            points.mean(0),
            max(float(points.std()), 1e-12),
        )  # one scale: pixels that are almost constant stay so
        train, test, train_labels, test_labels = train_test_split(
            self._inputs(x), labels, test_size=0.1, stratify=labels, random_state=seed
        )
        self.network: Any = MLPClassifier(tuple(hidden), max_iter=num_epochs, random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", ConvergenceWarning
            )  # features do not need the last digit of the weights
            self.network.fit(train, train_labels)
        self.held_out_accuracy = float(self.network.score(test, test_labels))

    def features(self, x: np.ndarray) -> np.ndarray:
        """The last hidden layer, (num, *event) -> (num, hidden[-1])."""
        h = self._inputs(x)
        for weight, bias in zip(self.network.coefs_[:-1], self.network.intercepts_[:-1]):
            h = np.maximum(h @ weight + bias, 0)
        return h

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        """p(y | x), (num, *event) -> (num, num_classes)."""
        return self.network.predict_proba(self._inputs(x))

    def _inputs(self, x: np.ndarray) -> np.ndarray:
        if np.shape(x)[1:] != self.event_shape:
            raise ValueError(
                f"The classifier was trained on data of shape {self.event_shape}, got "
                f"{np.shape(x)[1:]}."
            )
        return (as_points(x, "x") - self.mean) / self.scale


def _blocks(x: np.ndarray, y: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Rows of the matrix of distances, some at a time."""
    for start in range(0, len(x), _BLOCK):
        rows = slice(start, start + _BLOCK)
        yield rows, cdist(x[rows], y)


def _radii(x: np.ndarray, k: int) -> np.ndarray:
    """The distance of each point to its k-th nearest neighbor; the nearest is the point itself."""
    return np.concatenate(
        [np.partition(distance, k, axis=1)[:, k] for _, distance in _blocks(x, x)]
    )


def _square_root(covariance: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(covariance)
    return vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T


def _check_equal_events(x: np.ndarray, y: np.ndarray) -> None:
    if x.shape[1] != y.shape[1]:
        raise ValueError(
            f"Both need points of equal size, got {x.shape[1]} and {y.shape[1]} entries."
        )
