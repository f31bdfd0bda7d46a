"""Two-sample tests: p-values that are uniform under the null, power against alternatives,
statistics against known values.
"""

import math

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import kstest, norm
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from dgm_core.samples.two_sample import classifier_test, energy_test, mmd_test

TESTS = {
    "mmd": mmd_test,
    "mmd, fixed": lambda x, y, **kw: mmd_test(x, y, 1.0, **kw),
    "energy": energy_test,
}


def normals(num_x, num_y, shift=0.0, dim=2, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(num_x, dim)), rng.normal(size=(num_y, dim)) + shift


@pytest.mark.parametrize("name", TESTS)
def test_p_values_are_uniform_under_the_null(name):
    """500 pairs of samples of one heavy-tailed distribution, of unequal sizes; p is a multiple of
    1/100.
    """
    rng = np.random.default_rng(1)
    draws = rng.standard_t(3, size=(500, 20, 2))
    p = np.array(
        [TESTS[name](z[:12], z[12:], num_permutations=99, seed=rng).p_value for z in draws]
    )
    assert kstest(p - rng.uniform(0, 0.01, size=500), "uniform").pvalue > 0.01
    for level in (0.05, 0.2):
        assert np.mean(p <= level) <= level + 3 * math.sqrt(level * (1 - level) / 500)


@pytest.mark.parametrize("name", TESTS)
def test_a_difference_is_found(name):
    x, y = normals(60, 50, shift=1.5)
    result = TESTS[name](x, y, num_permutations=199)
    assert result.p_value == 1 / 200
    assert result.null.shape == (199,)
    assert abs(result.null.mean()) < 3 * result.null.std() / math.sqrt(199) < result.statistic
    spread = TESTS[name](x, 3 * x[::-1] + 0.01, num_permutations=199)  # equal means
    assert spread.p_value < 0.02


def test_mmd_statistic_averages_to_the_known_value():
    """MMD^2 = 0.177268 of N(0, 1) and N(1, 1) for the Gaussian kernel of length 1."""
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(1000, 20)), rng.normal(1.0, 1.0, size=(1000, 20))
    found = [mmd_test(a, b, 1.0, num_permutations=1).statistic for a, b in zip(x, y)]
    assert np.mean(found) == pytest.approx(0.177268, abs=3 * np.std(found) / math.sqrt(1000))


def test_energy_statistic_averages_to_the_known_value():
    """Energy distance 0.541807 of N(0, 1) and N(1, 1)."""
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(1000, 20)), rng.normal(1.0, 1.0, size=(1000, 20))
    found = [energy_test(a, b, num_permutations=1).statistic for a, b in zip(x, y)]
    assert np.mean(found) == pytest.approx(0.541807, abs=3 * np.std(found) / math.sqrt(1000))


def test_statistics_equal_the_double_loop():
    x, y = normals(5, 4)
    k_xx, k_yy, k_xy = (
        np.mean([np.exp(-(cdist(a, b) ** 2) / (2 * l**2)) for l in (0.5, 2.0)], axis=0)
        for a, b in ((x, x), (y, y), (x, y))
    )
    assert mmd_test(x, y, (0.5, 2.0)).statistic == pytest.approx(
        (k_xx.sum() - 5) / 20 + (k_yy.sum() - 4) / 12 - 2 * k_xy.mean(), abs=1e-12
    )
    xx, yy, xy = (cdist(a, b) ** 0.7 for a, b in ((x, x), (y, y), (x, y)))
    expected = 2 * xy.mean() - xx.sum() / 20 - yy.sum() / 12
    assert energy_test(x, y, 0.7).statistic == pytest.approx(expected, abs=1e-12)


def test_median_heuristic_ignores_the_unit():
    x, y = normals(15, 15, shift=0.5)
    assert mmd_test(1000 * x, 1000 * y).statistic == pytest.approx(
        mmd_test(x, y).statistic, abs=1e-12
    )
    assert mmd_test(np.ones(4), np.ones(3)).p_value == 1.0


def test_equal_seeds_give_equal_p_values():
    x, y = normals(15, 15, shift=0.3)
    assert (
        mmd_test(x, y, num_permutations=50, seed=4).p_value
        == mmd_test(x, y, num_permutations=50, seed=4).p_value
    )
    assert not np.array_equal(mmd_test(x, y, seed=4).null, mmd_test(x, y, seed=5).null)


def test_events_of_any_shape():
    x, y = normals(10, 12, dim=6)
    images = x.reshape(10, 2, 3), y.reshape(12, 2, 3)
    assert mmd_test(*images).statistic == mmd_test(x, y).statistic
    assert energy_test(*images).statistic == energy_test(x, y).statistic


# ------------------------------------------------------------
# classifier test


def test_classifier_reaches_the_accuracy_of_bayes():
    """N(0, 1) against N(1, 1): the best classifier cuts at 1/2 and is right with probability
    Phi(1/2); its total variation is 2 Phi(1/2) - 1.
    """
    x, y = normals(8000, 8000, shift=1.0, dim=1)
    result = classifier_test(x, y, LogisticRegression())
    assert result.accuracy == pytest.approx(norm.cdf(0.5), abs=3 * 0.5 / math.sqrt(8000))
    assert result.p_value < 1e-100


def test_default_classifier_sees_what_means_and_variances_do_not():
    """Equal margins, correlation 0.8 against -0.8."""
    x, _ = normals(1000, 1)
    mixed = x @ np.array([[1.0, 0.8], [0.0, 0.6]])
    result = classifier_test(mixed[:500], mixed[500:] * [1, -1])
    assert result.accuracy > 0.7 and result.p_value < 1e-6
    same = classifier_test(mixed[:500], mixed[500:])
    assert same.p_value > 0.01


def test_p_values_of_the_classifier_test_are_valid():
    """Unequal samples from one distribution: P(p <= a) <= a, and not far below."""
    rng = np.random.default_rng(5)
    p = np.array(
        [
            classifier_test(z[:60], z[60:], KNeighborsClassifier(3), seed=i).p_value
            for i, z in enumerate(rng.normal(size=(400, 110, 2)))
        ]
    )
    for level in (0.05, 0.2, 0.5):
        share = np.mean(p <= level)
        assert level / 3 < share <= level + 3 * math.sqrt(level * (1 - level) / 400)


BAD = {
    "one point": (
        lambda: mmd_test(np.zeros((1, 2)), np.zeros((5, 2))),
        r"x must be \(num, \*event\) with at least 2 points, got shape \(1, 2\)\.",
    ),
    "events": (
        lambda: energy_test(np.zeros((5, 2)), np.zeros((5, 3))),
        r"equal events, got shapes \(5, 2\) and \(5, 3\)\.",
    ),
    "not finite": (
        lambda: mmd_test(np.zeros(3), np.array([0.0, np.nan, np.inf])),
        r"y must be finite, got 2 values that are not\.",
    ),
    "length scale": (
        lambda: mmd_test(np.zeros(3), np.ones(3), 0.0),
        r"length_scales must be a positive number, or .*, got 0\.0\.",
    ),
    "no length scale": (
        lambda: mmd_test(np.zeros(3), np.ones(3), ()),
        r"length_scales must be a positive number",
    ),
    "beta": (
        lambda: energy_test(np.zeros(3), np.ones(3), 2),
        r"beta must be a number in \(0, 2\), got 2\.",
    ),
    "permutations": (
        lambda: energy_test(np.zeros(3), np.ones(3), num_permutations=0),
        r"num_permutations must be an integer of at least 1, got 0\.",
    ),
    "share": (
        lambda: classifier_test(np.zeros(20), np.ones(20), test_share=1),
        r"test_share must be a number in \(0, 1\), got 1\.",
    ),
    "few": (
        lambda: classifier_test(np.zeros(9), np.ones(20)),
        r"x must be \(num, \*event\) with at least 10 points, got shape \(9,\)\.",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments(case):
    attempt, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        attempt()
