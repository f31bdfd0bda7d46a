"""Binarization, dequantization, and the logit transform against numerical differentiation."""

import numpy as np
import pytest

from dgm_core.data import (
    binarize,
    dequantize,
    inverse_logit_transform,
    logit_transform,
    two_moons,
)


@pytest.fixture
def gray():
    return np.random.default_rng(0).integers(17, size=(400, 64)).astype(np.float32) / 16


@pytest.mark.parametrize("protocol", ["static", "dynamic"])
def test_binarization_is_a_bernoulli_draw(gray, protocol):
    draws = np.stack([binarize(gray, protocol, seed=seed) for seed in range(30)])
    assert set(np.unique(draws)) == {0.0, 1.0}
    assert draws.dtype == np.float32
    for level in np.unique(gray):
        chosen = draws[:, gray == level]
        assert chosen.mean() == pytest.approx(level, abs=5 * np.sqrt(0.25 / chosen.size))


def test_what_the_draw_depends_on(gray):
    np.testing.assert_array_equal(
        binarize(gray, "static", epoch=1), binarize(gray, "static", epoch=2)
    )
    np.testing.assert_array_equal(
        binarize(gray, "dynamic", epoch=1), binarize(gray, "dynamic", epoch=1)
    )
    assert not np.array_equal(
        binarize(gray, "dynamic", epoch=1), binarize(gray, "dynamic", epoch=2)
    )
    assert not np.array_equal(binarize(gray, "static", seed=1), binarize(gray, "static", seed=2))
    np.testing.assert_array_equal(binarize(gray, "threshold"), gray > 0.5)


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_dequantization_is_uniform_within_each_level(levels):
    x = np.repeat(np.arange(levels) / (levels - 1), 2000)
    y = dequantize(x.astype(np.float32), levels)
    assert y.dtype == np.float32
    assert 0 <= y.min() <= y.max() < 1
    offset = y.astype(float) * levels - np.rint(x * (levels - 1))
    assert offset.min() >= -1e-4
    assert offset.max() <= 1 + 1e-4
    assert offset.mean() == pytest.approx(0.5, abs=0.02)
    assert offset.var() == pytest.approx(1 / 12, abs=0.01)


@pytest.mark.parametrize("alpha", [0.0, 1e-6, 0.05])
def test_logit_jacobian_against_differences(alpha):
    rng = np.random.default_rng(0)
    x = rng.uniform(0.02, 0.98, size=(6, 9))
    y, log_jacobian = logit_transform(x, alpha)
    step = 1e-6
    slopes = (logit_transform(x + step, alpha)[0] - logit_transform(x - step, alpha)[0]) / (
        2 * step
    )
    np.testing.assert_allclose(log_jacobian, np.log(slopes).sum(-1), atol=1e-6)
    np.testing.assert_allclose(inverse_logit_transform(y, alpha), x, atol=1e-12)


def test_the_logit_transform_keeps_probability():
    """A uniform density on [0, 1] becomes p(y) = |dx/dy|, which integrates to one over the line."""
    x = np.linspace(0, 1, 20_001)[:, None]
    y, log_jacobian = logit_transform(x, alpha=0.05)
    assert np.trapezoid(np.exp(-log_jacobian), y[:, 0]) == pytest.approx(1, abs=1e-6)


def test_logit_at_the_ends_and_in_float32():
    y, log_jacobian = logit_transform(np.array([[0.0, 1.0]], np.float32))
    assert y.dtype == log_jacobian.dtype == np.float32
    assert np.isfinite(y).all()
    np.testing.assert_allclose(y, [[-np.log(1e6), np.log(1e6)]], rtol=1e-5)


@pytest.mark.parametrize(
    ("use", "match"),
    [
        (
            lambda x: binarize(x, "stochastic"),
            "one of static, dynamic, threshold, got 'stochastic'",
        ),
        (lambda x: binarize(2 * x), r"must lie in \[0, 1\].*got values from 0.0 to 2.0"),
        (lambda x: binarize(np.full(3, np.nan)), "without NaN"),
        (lambda x: dequantize(x, 1), "levels must be at least 2, got 1"),
        (lambda x: dequantize(-x), r"must lie in \[0, 1\]"),
        (lambda x: logit_transform(x, 0.5), r"alpha must be a number in \[0, 0.5\), got 0.5"),
        (lambda x: logit_transform(x, 0.0), "dequantize them"),
        (lambda x: logit_transform(255 * x), r"must lie in \[0, 1\]"),
    ],
)
def test_bad_input(gray, use, match):
    with pytest.raises(ValueError, match=match):
        use(gray)


@pytest.mark.parametrize(
    ("use", "match"),
    [
        (lambda: binarize([0.5, "a"]), "array of real numbers"),
        (lambda: binarize(np.zeros(2), seed=-1), "seed must be"),
        (lambda: binarize(np.zeros(2), "dynamic", epoch=0.5), "epoch must be"),
        (lambda: dequantize(np.zeros(2), 2.5), "levels must be an integer of at least 2, got 2.5"),
        (lambda: dequantize(np.zeros(2), seed="a"), "seed must be"),
        (lambda: two_moons(2.5), "num_samples must be an integer of at least 1, got 2.5"),
        (lambda: two_moons(True), "num_samples must be"),
        (lambda: two_moons(3, seed=-1), "seed must be"),
    ],
)
def test_arguments_of_a_wrong_kind(use, match):
    with pytest.raises(ValueError, match=match):
        use()


def test_lists_of_pixels():
    np.testing.assert_array_equal(binarize([0.2, 0.9], "threshold"), [0.0, 1.0])
