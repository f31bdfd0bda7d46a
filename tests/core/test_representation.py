"""Metrics of codes with known factors, on cases that are worked out by hand."""

import math

import numpy as np
import pytest

from dgm_core.representation import (
    clustering_accuracy,
    dci,
    dci_of,
    linear_probe,
    mutual_information_gap,
)

FACTORS = np.stack(np.meshgrid(np.arange(4), np.arange(2), indexing="ij"), -1).reshape(-1, 2)
RNG = np.random.default_rng(0)


def test_gap_of_codes_along_the_axes() -> None:
    """Each entry is one factor, renamed: 1; a copy of an entry: nothing is left of its factor."""
    renamed = np.stack([np.array([3.0, -1.0, 7.0, 0.5])[FACTORS[:, 0]], -2.0 * FACTORS[:, 1]], 1)
    found = mutual_information_gap(renamed[:, ::-1], FACTORS)
    assert found.score == pytest.approx(1.0)
    np.testing.assert_allclose(found.entropy, [math.log(4), math.log(2)])
    np.testing.assert_allclose(found.mutual_information[::-1], np.diag(found.entropy), atol=1e-12)
    twice = mutual_information_gap(np.c_[renamed, renamed[:, 0]], FACTORS)
    np.testing.assert_allclose(twice.per_factor, [0.0, 1.0], atol=1e-12)
    alone = mutual_information_gap(renamed[:, :1], FACTORS)
    np.testing.assert_allclose(alone.per_factor, [1.0, 0.0], atol=1e-12)


def test_gap_of_rotated_codes() -> None:
    """Two fair bits a, b and the codes a + b and a - b: each tells 1/2 of a bit of either, so that
    there is no gap; a + b and a tell 1/2 and 1 of a, 1/2 and 0 of b."""
    bits = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    rotated = np.stack([bits.sum(1), bits[:, 0] - bits[:, 1]], 1)
    found = mutual_information_gap(rotated, bits)
    np.testing.assert_allclose(found.mutual_information, 0.5 * math.log(2))
    assert found.score == pytest.approx(0.0, abs=1e-12)
    half = mutual_information_gap(np.stack([bits.sum(1), bits[:, 0]], 1), bits)
    np.testing.assert_allclose(half.per_factor, [0.5, 0.5])


def test_bins_of_the_gap() -> None:
    """A uniform code in four bins against its halves: all of log 2; an unequal split of 8 values
    in 2 bins, 6 and 2, of which the class takes 4: by hand."""
    z = np.linspace(0, 1, 400)[:, None]
    halves = (z > 0.5).astype(int)
    assert mutual_information_gap(z, halves, num_bins=4).score == pytest.approx(1.0)
    z = np.array([0, 1, 2, 3, 3.5, 3.9, 6, 8.0])[:, None]
    labels = np.repeat([0, 1], 4)[:, None]
    p = np.array([[4 / 8, 2 / 8], [0.0, 2 / 8]])
    wanted = sum(
        p[i, j] * math.log(p[i, j] / (p[i].sum() * p[:, j].sum()))
        for i, j in ((0, 0), (0, 1), (1, 1))
    )
    found = mutual_information_gap(z, labels, num_bins=2)
    assert found.mutual_information[0, 0] == pytest.approx(wanted)


def test_dci_of_a_matrix() -> None:
    """Three entries and two factors, by hand."""
    found = dci_of([[3.0, 1.0], [0.0, 4.0], [0.0, 0.0]])
    entropy = -(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25))
    np.testing.assert_allclose(found.per_entry, [1 - entropy, 1.0, 0.0])
    assert found.disentanglement == pytest.approx(0.5 * (1 - entropy) + 0.5)
    second = -(0.2 * math.log(0.2) + 0.8 * math.log(0.8)) / math.log(3)
    np.testing.assert_allclose(found.per_factor, [1.0, 1 - second])
    assert found.completeness == pytest.approx(1 - second / 2)


def test_dci_of_codes_with_noise_and_an_idle_entry() -> None:
    """Each entry tells one factor, and the third none: 1, but for a trace of the forest; rotated by
    45 degrees each tells both alike: 0."""
    factors, noise = RNG.integers(0, 3, (200, 2)), 0.01 * RNG.normal(size=(200, 2))
    found = dci(np.c_[factors + noise, RNG.normal(size=200)], factors)
    assert min(found.disentanglement, found.completeness) > 0.95
    rotated = dci(factors @ [[1, 1], [1, -1]] + noise, factors)
    assert max(rotated.disentanglement, rotated.completeness) < 0.05


def test_dci_of_codes() -> None:
    """Codes that are the factors; codes of which one knows all and one nothing; a rotation by 45
    degrees under linear predictors, whose coefficients are known."""
    from sklearn.linear_model import LinearRegression

    v = RNG.integers(0, 3, (400, 2))
    found = dci(v + 0.0, v)
    assert found.disentanglement > 0.9 and found.completeness > 0.9
    np.testing.assert_array_equal(found.informativeness, 1.0)
    both = dci(np.stack([v[:, 0] * 3 + v[:, 1], RNG.normal(size=400)], 1), v)
    assert both.disentanglement < 0.1 < 0.3 < both.completeness  # forests also use the noise
    real = RNG.normal(size=(400, 2))
    rotated = real @ np.array([[1.0, 1.0], [-1.0, 1.0]]) / math.sqrt(2)
    linear = dci(rotated, real, LinearRegression())
    assert linear.disentanglement == pytest.approx(0.0, abs=1e-12)
    np.testing.assert_allclose(linear.importance, math.sqrt(0.5))
    np.testing.assert_allclose(linear.informativeness, 1.0)
    scaled = dci(real * [2.0, -0.5], real, LinearRegression())
    assert scaled.disentanglement == pytest.approx(1.0) == pytest.approx(scaled.completeness)
    np.testing.assert_allclose(scaled.importance, [[0.5, 0], [0, 2]], atol=1e-12)


def test_linear_probe() -> None:
    """Separable codes; codes that know nothing; codes at which the best rule is right with
    probability 0.8."""
    labels = np.arange(300) % 3
    assert linear_probe(np.eye(3)[labels], labels).accuracy == 1.0
    blind = linear_probe(RNG.normal(size=(900, 2)), np.arange(900) % 3)
    assert abs(blind.accuracy - 1 / 3) < 0.07 and blind.chance == pytest.approx(1 / 3)
    codes = np.arange(1000) % 2
    noisy = np.where(np.arange(1000) // 2 % 5 == 0, 1 - codes, codes)
    found = linear_probe(codes[:, None] * 1.0, noisy)
    assert found.accuracy == pytest.approx(0.8) and len(found.folds) == 5


def test_clustering_accuracy() -> None:
    """Renamed classes are all right; an asymmetric table of counts by hand; more clusters than
    classes, and fewer."""
    labels = RNG.integers(0, 5, 200)
    assert clustering_accuracy(labels, np.array([7, 0, 3, 1, 9])[labels]) == 1.0
    table = np.array([[5, 4, 0], [6, 1, 0], [0, 3, 1]])  # 4 + 6 + 1 beats 5 + 3 + 0 and 5 + 1 + 1
    labels, clusters = (np.repeat(x.ravel(), table.ravel()) for x in np.indices((3, 3)))
    assert clustering_accuracy(labels, clusters) == pytest.approx(11 / 20)
    assert clustering_accuracy([0, 0, 0, 1], [0, 1, 2, 3]) == pytest.approx(0.5)
    assert clustering_accuracy([0, 1, 2, 2], [0, 0, 0, 0]) == pytest.approx(0.5)


CODES, LABELS = RNG.normal(size=(20, 2)), np.arange(20) % 2


@pytest.mark.parametrize(("call", "words"), [
    (lambda: clustering_accuracy(LABELS, LABELS - 1), "clusters must be class numbers.* got -1.0"),
    (lambda: clustering_accuracy(LABELS, LABELS + 0.5), "clusters must be class numbers"),
    (lambda: clustering_accuracy(np.where(LABELS, np.nan, 1), LABELS), "labels must be .* got nan"),
    (lambda: clustering_accuracy(LABELS, LABELS[:3]), r"clusters must be \(20,\), one per code"),
    (lambda: clustering_accuracy([], []), "labels must be .* not empty"),
    (lambda: linear_probe(CODES * np.inf, LABELS), "codes must be finite, got 40 of 40"),
    (lambda: linear_probe(CODES, np.zeros(20)), "labels must be of two classes or more"),
    (lambda: linear_probe(CODES, np.arange(20)), "with 5 data or more each"),
    (lambda: linear_probe(CODES, LABELS, 3), "classifier must be a classifier of scikit-learn"),
    (lambda: mutual_information_gap(CODES, LABELS[:, None] * 0), "Factor 0 has one value only"),
    (lambda: mutual_information_gap(CODES, CODES), "class numbers .an array of integers.*: bin it"),
    (lambda: mutual_information_gap(CODES, LABELS[:9, None]), "one row per code, got 9 for 20"),
    (lambda: mutual_information_gap(CODES, LABELS[:, None] - 1), "class numbers.* got -1.0"),
    (lambda: dci(CODES, LABELS[:, None]), "two entries and two factors or more"),
    (lambda: dci(CODES, CODES, 3), "predictor must be an estimator of scikit-learn"),
    (lambda: dci_of([[1.0, 0.0], [1.0, 0.0]]), r"for the factors \[1\]"),
    (lambda: dci_of([[1.0, -1.0], [1.0, 2.0]]), "finite and not negative"),
])  # fmt: skip
def test_bad_codes_and_labels_are_refused(call, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()
