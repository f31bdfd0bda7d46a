"""Scores of samples against closed forms, brute force, and a data set where the answers
are known.
"""

import math

import numpy as np
import pytest
from scipy.linalg import sqrtm
from scipy.spatial.distance import cdist
from sklearn.datasets import load_digits

import dgm_core.samples.quality
from dgm_core.samples.quality import (
    FeatureClassifier,
    classifier_score,
    frechet_distance,
    mode_counts,
    neighbor_scores,
)

# ------------------------------------------------------------------------------ precision, recall,
# density, coverage


def brute_force(real, fake, k):
    real_radius, fake_radius = (np.sort(cdist(x, x), axis=1)[:, k] for x in (real, fake))
    distance = cdist(real, fake)
    in_real, in_fake = distance <= real_radius[:, None], distance <= fake_radius
    return (
        in_real.any(0).mean(),
        in_fake.any(1).mean(),
        in_real.sum() / (k * len(fake)),
        in_real.any(1).mean(),
    )


@pytest.mark.parametrize("block", [7, 1024])
def test_neighbor_scores_equal_brute_force(block, monkeypatch):
    monkeypatch.setattr(dgm_core.samples.quality, "_BLOCK", block)
    rng = np.random.default_rng(0)
    real, fake = rng.normal(size=(40, 3)), rng.normal(0.5, 0.8, size=(25, 3))
    assert neighbor_scores(real, fake, k=3) == pytest.approx(brute_force(real, fake, 3))
    assert neighbor_scores(real[:, None], fake[:, None], k=3) == neighbor_scores(real, fake, k=3)


def test_identical_samples_cover_each_other():
    """Also where points are repeated, whose balls have no extent."""
    x = np.random.default_rng(1).normal(size=(50, 2))
    scores = neighbor_scores(x, x)
    assert scores.precision == scores.recall == scores.coverage == 1.0
    repeated = np.repeat(x[:5], 10, axis=0)
    assert neighbor_scores(repeated, repeated).coverage == 1.0


def test_samples_that_are_far_away():
    x = np.random.default_rng(2).normal(size=(50, 2))
    assert neighbor_scores(x, x + 100) == (0.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize(("num_real", "num_fake", "k"), [(30, 30, 5), (40, 20, 3)])
def test_expectations_for_equal_distributions(num_real, num_fake, k):
    """Naeem et al.: E density = 1 and E coverage = 1 - prod_i (N - i) / (M + N - i), for every
    distribution.
    """
    rng = np.random.default_rng(3)
    found = np.array(
        [
            neighbor_scores(rng.normal(size=(num_real, 2)), rng.normal(size=(num_fake, 2)), k)
            for _ in range(400)
        ]
    )
    error = 3 * found.std(0, ddof=1) / math.sqrt(len(found))
    coverage = 1 - math.prod((num_real - i) / (num_fake + num_real - i) for i in range(1, k + 1))
    assert found[:, 2].mean() == pytest.approx(1.0, abs=error[2])
    assert found[:, 3].mean() == pytest.approx(coverage, abs=error[3])


def test_a_dropped_mode_costs_recall_and_coverage_and_an_added_one_precision_and_density():
    rng = np.random.default_rng(4)
    one, two = rng.normal(size=(400, 2)), rng.normal(size=(400, 2)) + np.array([20, 0])
    both = np.concatenate([one[:200], two[:200]])
    dropped = neighbor_scores(both, one[200:])
    assert dropped.precision > 0.9 and dropped.recall < 0.51 and dropped.coverage < 0.51
    added = neighbor_scores(one[200:], both)
    assert (
        added.precision < 0.51
        and added.density < 0.6
        and added.recall > 0.9
        and added.coverage > 0.85
    )


def test_an_outlier_of_the_data_raises_precision_and_not_density():
    """Noise far from the data lies in the outlier's huge ball: precision calls it good, density
    hardly counts it.
    """
    rng = np.random.default_rng(5)
    real = np.concatenate([rng.normal(size=(200, 2)), [[40.0, 0.0]]])
    noise = rng.uniform(-8, 8, size=(200, 2)) + np.array([30, 0])
    scores = neighbor_scores(real, noise)
    assert scores.precision == 1.0 and scores.density < 0.25 and scores.coverage < 0.1


# ------------------------------------------------------------
# modes


def test_modes_of_the_mixture_itself():
    """Eight Gaussians: all found, equally often, and a share of 1 - exp(-9/2) within three standard
    deviations.
    """
    rng = np.random.default_rng(6)
    angle = 2 * np.pi * np.arange(8) / 8
    modes = 2 * np.stack([np.cos(angle), np.sin(angle)], 1)
    x = modes[rng.integers(8, size=40_000)] + 0.02 * rng.normal(size=(40_000, 2))
    result = mode_counts(x, modes, sd=0.02)
    truth = 1 - math.exp(-4.5)
    assert result.found == 8
    assert result.share == pytest.approx(truth, abs=3 * math.sqrt(truth * (1 - truth) / 40_000))
    np.testing.assert_allclose(result.counts, 40_000 * truth / 8, atol=4 * math.sqrt(5000))
    assert mode_counts(x, modes, sd=0.02, radius=1.0).share == pytest.approx(
        1 - math.exp(-0.5), abs=3 * 0.5 / 200
    )


def test_modes_that_are_missed():
    modes = np.array([[0.0, 0.0], [10.0, 0.0], [20.0, 0.0]])
    x = np.array([[0.0, 0.5], [0.2, 0.0], [5.0, 0.0], [10.0, 2.9], [20.0, 3.1]])
    result = mode_counts(x, modes, sd=1.0)
    assert (result.found, result.share, list(result.counts)) == (2, 0.6, [2, 1, 0])
    assert mode_counts(x, modes, sd=1.0, least=2).found == 1


# ------------------------------------------------------------
# Frechet distance, scores


def with_moments(mean, factor, num=50, seed=0):
    """Points whose sample mean is `mean` and whose sample covariance is factor @
    factor.T, exactly.
    """
    x = np.random.default_rng(seed).normal(size=(num, len(mean)))
    x = x - x.mean(0)
    white = np.linalg.solve(np.linalg.cholesky(np.cov(x, rowvar=False)), x.T).T
    return mean + white @ np.asarray(factor).T


def test_frechet_distance_of_two_gaussians():
    """Commuting covariances: |m - m'|^2 + sum_i (s_i - s'_i)^2."""
    real, fake = (
        with_moments([0.0, 1.0, 2.0], np.diag([1.0, 2.0, 3.0])),
        with_moments([1.0, 1.0, 0.0], np.diag([2.0, 2.0, 0.5]), seed=1),
    )
    assert frechet_distance(real, fake) == pytest.approx(5.0 + 1.0 + 6.25, rel=1e-10)
    assert frechet_distance(fake, real) == pytest.approx(12.25, rel=1e-10)
    assert frechet_distance(real, real) == pytest.approx(0.0, abs=1e-8)
    assert frechet_distance(real, real + np.array([3.0, 4.0, 0.0])) == pytest.approx(
        25.0, rel=1e-10
    )


def test_frechet_distance_of_covariances_that_do_not_commute():
    rng = np.random.default_rng(7)
    a, b = rng.normal(size=(4, 4)), rng.normal(size=(4, 4))
    s, t = a @ a.T, b @ b.T
    expected = np.trace(s + t - 2 * np.real(sqrtm(s @ t)))
    assert frechet_distance(
        with_moments(np.zeros(4), a), with_moments(np.zeros(4), b, seed=1)
    ) == pytest.approx(expected, rel=1e-8)


def test_frechet_distance_with_fewer_points_than_dimensions():
    """Singular covariances, of two points each: real +-(1, 0, 0), fake +-(0, 2, 0)."""
    real, fake = np.array([[1.0, 0, 0], [-1.0, 0, 0]]), np.array([[0, 2.0, 0], [0, -2.0, 0]])
    assert frechet_distance(real, fake) == pytest.approx(2.0 + 8.0)
    assert frechet_distance(real, 2 * real) == pytest.approx(2.0)  # (2 - 1)^2 times the variance 2


def test_frechet_distance_in_one_dimension():
    assert frechet_distance(np.array([-1.0, 1.0]), np.array([2.0, 4.0])) == pytest.approx(9.0)


def test_classifier_score():
    assert classifier_score(np.full((5, 4), 0.25)) == pytest.approx(1.0)  # never sure
    assert classifier_score(np.tile([0.0, 1.0, 0.0], (6, 1))) == pytest.approx(
        1.0
    )  # one class only
    assert classifier_score(np.repeat(np.eye(7), 3, axis=0)) == pytest.approx(7.0)
    p = np.array([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]])
    expected = math.exp(np.mean(np.sum(p * np.log(p / p.mean(0)), axis=1)))
    assert classifier_score(p) == pytest.approx(expected)


# ------------------------------------------------------------
# features of a classifier


@pytest.fixture(scope="module")
def digits():
    x, labels = load_digits(return_X_y=True)
    return x.reshape(-1, 8, 8) / 16, labels


@pytest.fixture(scope="module")
def network(digits):
    return FeatureClassifier(*digits, hidden=(64, 32), num_epochs=100)


def test_the_classifier_learns_digits(digits, network):
    x, _ = digits
    assert network.held_out_accuracy > 0.93
    assert network.features(x[:9]).shape == (9, 32)
    logits = network.features(x) @ network.network.coefs_[-1] + network.network.intercepts_[-1]
    softmax = np.exp(logits - logits.max(1, keepdims=True))
    np.testing.assert_allclose(
        softmax / softmax.sum(1, keepdims=True), network.probabilities(x), atol=1e-10
    )
    assert 8.5 < classifier_score(network.probabilities(x)) <= 10


def test_scores_order_samples_as_an_eye_would(digits, network):
    """Two halves of the digits, one half with noise, and noise alone; and digits of one
    class only.
    """
    x, labels = digits
    rng = np.random.default_rng(8)
    first, second = x[::2], x[1::2]
    samples = [
        second,
        np.clip(second + rng.normal(0, 0.25, second.shape), 0, 1),
        rng.uniform(size=second.shape),
    ]
    frechet = [frechet_distance(network.features(first), network.features(s)) for s in samples]
    score = [classifier_score(network.probabilities(s)) for s in samples]
    assert 10 * frechet[0] < frechet[1] < frechet[2]
    assert score[0] > score[1] > score[2]
    threes = second[labels[1::2] == 3]
    assert classifier_score(network.probabilities(threes)) < 1.2
    assert frechet_distance(network.features(first), network.features(threes)) > 10 * frechet[0]


def test_equal_seeds_give_equal_features(digits):
    x, labels = digits[0][:200], digits[1][:200]
    first, second = (
        FeatureClassifier(x, labels, hidden=(8,), num_epochs=3, seed=1).features(x)
        for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)


BAD = {
    "k": (
        lambda: neighbor_scores(np.zeros(9), np.zeros(9), 0),
        (
            r"k must be an integer of at "
            r"least 1, got 0\."
        ),
    ),
    "few": (
        lambda: neighbor_scores(np.zeros(5), np.zeros(9), 5),
        r"real must be \(num, \*event\) with at least 6 points, got shape \(5,\)\.",
    ),
    "events": (
        lambda: neighbor_scores(np.zeros((9, 2)), np.zeros((9, 3))),
        r"points of equal size, got 2 and 3 entries\.",
    ),
    "sd": (
        lambda: mode_counts(np.zeros(3), np.zeros(3), 0.0),
        r"sd must be a positive number, got 0\.0\.",
    ),
    "modes": (
        lambda: mode_counts(np.zeros((3, 2)), np.zeros((3, 1)), 1.0),
        r"points of equal size, got 2 and 1 entries\.",
    ),
    "one point": (
        lambda: frechet_distance(np.zeros((1, 2)), np.zeros((3, 2))),
        r"real must be \(num, \*event\) with at least 2 points",
    ),
    "nan": (
        lambda: frechet_distance(np.zeros(2), np.array([0.0, np.nan])),
        r"fake must be finite, got 1 values that are not\.",
    ),
    "features": (
        lambda: frechet_distance(np.zeros((3, 2)), np.zeros((3, 4))),
        r"points of equal size, got 2 and 4 entries\.",
    ),
    "sums": (
        lambda: classifier_score(np.full((2, 3), 0.5)),
        r"sum to one, got sums from 1\.5 to 1\.5\.",
    ),
    "negative": (
        lambda: classifier_score(np.array([[-0.5, 1.5]])),
        r"must be rows that are not negative",
    ),
    "labels": (
        lambda: FeatureClassifier(np.zeros((4, 2)), np.zeros(3)),
        r"one for each of 4 data, of two classes or more, got shape \(3,\)\.",
    ),
    "one class": (
        lambda: FeatureClassifier(np.zeros((4, 2)), np.zeros(4)),
        r"of two classes or more, got shape \(4,\)\.",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments(case):
    attempt, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        attempt()


def test_features_of_other_data(network):
    with pytest.raises(ValueError, match=r"trained on data of shape \(8, 8\), got \(64,\)\."):
        network.features(np.zeros((2, 64)))
