"""The estimators of the parts of a KL, against quadrature and all minibatches."""

import math
from itertools import combinations

import numpy as np
import pytest
from scipy.stats import norm

from dgm_core.surgery import ELBOSurgery, RateDistortion, elbo_surgery
from dgm_core.surgery.aggregate import blocks_of, log_aggregate
from dgm_core.surgery.parts import Scores, parts_of
from tests.evaluation import gaussians as g

LOCS = np.array([[-1.0, 0.2], [0.3, 1.1], [1.4, -0.5], [0.1, 0.0]])
SCALES = np.array([[0.4, 0.9], [0.7, 0.5], [0.3, 0.6], [1.1, 0.8]])


def entries(z: np.ndarray) -> np.ndarray:
    """log q(z_nd | x_m), (draws, 4, 2)."""
    return norm.logpdf(z[:, None], LOCS, SCALES)


def quadrature() -> dict[str, tuple[float, float]]:
    """Mean and variance, over a datum and a draw, of every part of four data."""
    points = np.linspace(-7, 8, 401)
    z = np.stack(np.meshgrid(points, points, indexing="ij"), -1).reshape(-1, 2)
    each, area = entries(z), (points[1] - points[0]) ** 2
    log_q, log_p = each.sum(-1), norm.logpdf(z, [0.2, -0.1], [1.3, 0.8])
    density = np.exp(log_q) * area / 4  # of datum and draw
    mixed = np.log(np.exp(each).mean(1))
    whole = np.log(np.exp(log_q).mean(1))
    terms = {
        "mean_kl": log_q - log_p.sum(-1, keepdims=True),
        "mutual_information": log_q - whole[:, None],
        "marginal_kl": (whole - log_p.sum(-1))[:, None],
        "total_correlation": (whole - mixed.sum(-1))[:, None],
        "dimension_wise_kl": (mixed - log_p).sum(-1)[:, None],
    }
    found = {}
    for name, x in terms.items():
        per_datum = (density * x).sum(0) * 4
        squares = (density * x**2).sum(0) * 4
        found[name] = (per_datum.mean(), (squares - per_datum**2).mean())
    return found


def test_parts_of_four_data_by_quadrature() -> None:
    """With q(z) the mixture of the four; the noise left is that of the draws."""
    rng, num = np.random.default_rng(0), 4000
    scores = []
    for _ in range(num):
        z = LOCS + SCALES * rng.standard_normal((4, 2))
        each, own = entries(z), np.arange(4)
        log_p = norm.logpdf(z, [0.2, -0.1], [1.3, 0.8])
        whole = each.sum(-1)
        marginal, marginals = log_aggregate(whole, own, 4), log_aggregate(each, own, 4)
        diagonal = np.diagonal(whole)
        scores.append(Scores(own, diagonal, marginal, log_p.sum(-1), None, marginals, log_p))
    found = parts_of(scores, 4)
    for name, (mean, variance) in quadrature().items():
        error = math.sqrt(variance / (4 * num))
        assert abs(getattr(found, name) - mean) < 3 * error, name
        assert error < 0.02
    g.assert_adds_up(found)
    assert found.mutual_information <= math.log(4) and found.reconstruction is None


def test_the_stratified_estimator_is_unbiased_for_q() -> None:
    """Its mean over all minibatches is the exact density; the weighted one's is what its weights
    say."""
    rng = np.random.default_rng(1)
    log_q = rng.normal(size=(1, 5, 2))
    exact = np.exp(log_aggregate(log_q, np.array([2]), 5))
    np.testing.assert_allclose(exact, np.exp(log_q).mean(1), rtol=1e-14)
    for aggregate, wanted in (
        ("stratified", exact),
        ("weighted", (np.exp(log_q[:, 2]) + 2 * np.exp(log_q[:, [0, 1, 3, 4]]).mean(1)) / 15),
    ):
        found = []
        for others in combinations([0, 1, 3, 4], 2):
            block = log_q[:, [others[0], 2, others[1]]]
            found.append(np.exp(log_aggregate(block, np.array([1]), 5, aggregate)))
        np.testing.assert_allclose(np.mean(found, 0), wanted, rtol=1e-13, err_msg=aggregate)


def test_the_information_of_minibatches_is_too_large() -> None:
    """On average, and never above log N."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=400)
    z = 2 * x + 0.3 * rng.normal(size=400)
    log_q = norm.logpdf(z[:, None], 2 * x, 0.3)
    exact = elbo_surgery(log_q, norm.logpdf(z)).mutual_information
    found = []
    for _ in range(20):
        scores = []
        for block in blocks_of(400, 20, rng):
            part = log_q[np.ix_(block, block)]
            marginal = log_aggregate(part, np.arange(len(block)), 400, "stratified")
            scores.append(Scores(block, np.diagonal(part), marginal, norm.logpdf(z[block])))
        found.append(parts_of(scores, 400, "stratified").mutual_information)
    assert exact + 0.05 < np.mean(found) and max(found) <= math.log(400)


def test_minibatches_hold_every_row_once() -> None:
    blocks = blocks_of(103, 10, np.random.default_rng(0))
    assert sorted(np.concatenate(blocks)) == list(range(103))
    assert {len(block) for block in blocks} == {10, 11}
    assert [len(block) for block in blocks_of(5, 10, np.random.default_rng(0))] == [5]


def test_entries_from_arrays() -> None:
    """The function of arrays gives the parts that the one of runs gives."""
    rng = np.random.default_rng(3)
    x = g.data(1500)
    z = x @ g.A.T + g.SHIFT + g.SD * rng.standard_normal((1500, 2))
    each = norm.logpdf(z[:, None], x @ g.A.T + g.SHIFT, g.SD)
    log_p = norm.logpdf(z, g.PRIOR_MEAN, g.PRIOR_SD)
    fit = norm.logpdf(x, z @ g.W.T + g.C, g.NOISE).sum(-1)
    found = elbo_surgery(
        each.sum(-1), log_p.sum(-1), log_likelihood=fit, log_q_entries=each, log_p_entries=log_p
    )
    g.assert_near(found, g.exact())
    g.assert_adds_up(found)


@pytest.mark.parametrize(("changes", "message"), [
    ({"log_likelihood": np.zeros(2)}, r"log_likelihood must have shape \(3,\) beside log_p"),
    ({"log_q_entries": np.zeros((3, 2, 1))}, r"log_q_entries must have shape \(3, 3, 1\)"),
    ({"log_q_entries": np.ones((3, 3, 2))}, "must add up to the joint log-density"),
    ({"log_p_entries": np.zeros((3, 2))}, "log_q_entries, which are missing"),
    ({"log_q": np.where(np.eye(3, k=1) > 0, np.nan, 0.0)}, "got 2 NaN and 0 infinite values"),
    ({"log_q_entries": np.full((3, 3, 1), np.nan)}, "must be numbers, got 9 NaN"),
])  # fmt: skip
def test_arrays_that_do_not_fit_are_refused(changes: dict, message: str) -> None:
    arguments = {"log_q": np.zeros((3, 3)), "log_p": np.zeros(3)} | changes
    with pytest.raises(ValueError, match=message):
        elbo_surgery(**arguments)


def test_rate_and_distortion() -> None:
    parts = ELBOSurgery(3.0, 2.0, 1.0, reconstruction=-9.0, num_data=7)
    other = parts._replace(mean_kl=1.0, reconstruction=-12.0)
    found = RateDistortion({1: parts, 4: other})
    np.testing.assert_array_equal(found.column("ELBO"), [-12.0, -13.0])
    axes = found.plot().axes[0]
    np.testing.assert_array_equal(axes.lines[0].get_xydata(), [[1.0, 12.0], [3.0, 9.0]])
    for bad, words in (
        ({}, "a dict of one surgery or more"),
        ({np.nan: parts, 4: other}, "labels that tell the runs apart, got NaN for one"),
        ({"a": parts, "b": parts._replace(num_data=8)}, r"same data, got \[7, 8\] data"),
        ({"a": parts._replace(reconstruction=None)}, "no ELBO without the reconstruction"),
    ):
        with pytest.raises(ValueError, match=words):
            RateDistortion(bad)
    with pytest.raises(ValueError, match="name must be one of"):
        found.column("beta")
