"""Corruptions, measures, and the best linear restoration: exact values of a Gaussian field."""

from functools import partial

import numpy as np
import pytest

from dgm_core.restoration import (
    add_noise,
    blur,
    box_masks,
    coverage,
    downsample,
    hidden_error,
    hide,
    iou,
    linear_restorer,
    operator_matrix,
    pixel_masks,
    psnr,
    to_gray,
)
from tests.images.field import SHAPE, field, field_covariance

EXACT = {"atol": 5e-9, "rtol": 0}


def test_denoising_a_field() -> None:
    """Toy G1, and other constants by the inverse of the precision."""
    best = linear_restorer(field_covariance(), np.eye(16), 0.25)
    variances = best.covariance.diagonal().reshape(4, 4)
    np.testing.assert_allclose(best.error, 0.08538941, **EXACT)
    np.testing.assert_allclose(variances[0, 0], 0.09804072, **EXACT)
    np.testing.assert_allclose(variances[1, 1], 0.07439801, **EXACT)
    np.testing.assert_allclose(best.information, 5.56884993, **EXACT)
    other = field_covariance(0.6, height=3, width=5)
    best = linear_restorer(other, np.eye(15), 0.7)
    expected = np.linalg.inv(np.linalg.inv(other) + np.eye(15) / 0.7)
    np.testing.assert_allclose(best.covariance, expected, atol=1e-12)


def test_holes_and_fewer_pixels_of_a_field() -> None:
    mask = box_masks(SHAPE, 2, 1)
    seen = np.flatnonzero(mask)
    best = linear_restorer(field_covariance(), np.eye(16)[seen], 0.0)
    np.testing.assert_allclose(
        best.covariance.diagonal()[mask.ravel() == 0].mean(), 0.01944657, **EXACT
    )
    assert best.information == np.inf
    matrix = operator_matrix(partial(downsample, factor=2), SHAPE)
    best = linear_restorer(field_covariance(), matrix, 0.0)
    np.testing.assert_allclose(best.error, 0.08385976, **EXACT)
    np.testing.assert_allclose(2 * best.error, 0.16771952, atol=1e-8)
    x = field(4000, seed=0)
    y = downsample(x, 2)
    restored = best.restore(y)
    np.testing.assert_allclose(downsample(restored.reshape(x.shape), 2), y, atol=1e-10)
    assert abs(((restored - x.reshape(len(x), -1)) ** 2).mean() / best.error - 1) < 0.03
    draw = best.draws(y, 1, seed=1)[0]
    assert abs(((draw - x.reshape(len(x), -1)) ** 2).mean() / (2 * best.error) - 1) < 0.03
    repeated = y.repeat(2, -1).repeat(2, -2)
    assert abs(((repeated - x) ** 2).mean() / 0.0975 - 1) < 0.03


def test_a_mean_moves_with_the_data() -> None:
    rng = np.random.default_rng(0)
    mean, matrix = rng.standard_normal(4), rng.standard_normal((2, 4))
    best = linear_restorer(np.eye(4) + 0.5, matrix, 0.1, mean=mean)
    plain = linear_restorer(np.eye(4) + 0.5, matrix, 0.1)
    y = rng.standard_normal((3, 2))
    np.testing.assert_allclose(best.restore(y), plain.restore(y - matrix @ mean) + mean)
    np.testing.assert_allclose(best.restore((matrix @ mean)[None])[0], mean)


def test_masked_patches_of_a_field() -> None:
    """Toy G4: the error over the hidden patches, and over all, which is another number."""
    kept = [0, 5, 10, 15]
    mask = np.zeros(16)
    mask[kept] = 1.0
    covariance = field_covariance()
    best = linear_restorer(covariance, np.eye(16)[kept], 0.0)
    variances, hidden = best.covariance.diagonal(), mask == 0
    np.testing.assert_allclose(variances[hidden].mean(), 0.17140446, **EXACT)
    np.testing.assert_allclose(best.error, 0.12855334, **EXACT)
    left = best.covariance[np.ix_(hidden, hidden)]
    log_p = -0.5 * (np.linalg.slogdet(left)[1] + 12 * np.log(2 * np.pi))
    np.testing.assert_allclose(log_p, 7.30040554, **EXACT)
    x = field(4000, seed=2)
    restored = best.restore(x.reshape(len(x), -1)[:, kept]).reshape(x.shape)
    found = hidden_error(x, restored, mask.reshape(1, 1, 4, 4))
    assert abs(found / 0.17140446 - 1) < 0.03


def test_operators_are_what_they_say() -> None:
    x = np.random.default_rng(0).uniform(size=(3, 3, 6, 8))
    assert downsample(x, 2)[1, 2, 1, 3] == pytest.approx(x[1, 2, 2:4, 6:8].mean())
    np.testing.assert_allclose(to_gray(x)[:, 0], x.transpose(0, 2, 3, 1) @ [0.299, 0.587, 0.114])
    np.testing.assert_allclose(blur(np.ones_like(x), 1.5), 1.0)
    peak = np.zeros((1, 1, 9, 9))
    peak[..., 4, 4] = 1.0
    spread = blur(peak, 1.0)[0, 0]
    np.testing.assert_allclose(spread[4, 5] / spread[4, 4], np.exp(-0.5), rtol=1e-6)
    for operator in (partial(blur, width=0.8), partial(downsample, factor=2), to_gray):
        matrix = operator_matrix(operator, (3, 6, 8))
        np.testing.assert_allclose(x.reshape(3, -1) @ matrix.T, operator(x).reshape(3, -1))
    mask = box_masks((3, 6, 8), 3, 3, seed=0)
    assert mask.shape == (3, 1, 6, 8) and (mask.sum((1, 2, 3)) == 48 - 9).all()
    seen = hide(x, mask)
    np.testing.assert_array_equal(seen[:, :3], x * mask)
    np.testing.assert_array_equal(seen[:, 3:], mask)
    assert abs(pixel_masks((1, 50, 50), 0.3, 4, seed=0).mean() - 0.7) < 0.02
    noise = add_noise(x, 0.2, seed=0) - x
    assert abs(noise.std() / 0.2 - 1) < 0.1 and abs(noise.mean()) < 0.03


def test_measures() -> None:
    x = np.zeros((2, 1, 2, 2))
    y = x + np.array([0.1, 0.2])[:, None, None, None]
    np.testing.assert_allclose(psnr(x, y), [20.0, 20 - 20 * np.log10(2)])
    np.testing.assert_allclose(psnr(255 * x, 255 * y, peak=255.0), psnr(x, y))
    np.testing.assert_allclose(iou([[0, 2], [2, 2]], [[0, 2], [0, 2]], 3)[[0, 2]], [1 / 2, 2 / 3])
    assert np.isnan(iou([0, 2], [0, 2], 3)[1])
    rng = np.random.default_rng(0)
    truth, draws = rng.standard_normal(4000), rng.standard_normal((99, 4000))
    for row in coverage(truth, draws, (0.5, 0.9)):
        assert abs(row.coverage - row.level) < 0.02
    few = coverage(truth, draws[:39])[-1]  # as few as an interval of 95 % can be told by
    assert abs(few.coverage - 0.95) < 0.02
    narrow = coverage(truth, 0.5 * draws, (0.9,))[0]
    assert narrow.coverage < 0.65 and abs(narrow.width / (0.5 * 3.29) - 1) < 0.05


def test_bayes_error_of_a_segmentation() -> None:
    """N(0, 1) and N(1.5, 1), shares 0.7 and 0.3: a threshold at 1.31486524, error 0.19396282."""
    rng = np.random.default_rng(0)
    labels = (rng.uniform(size=200_000) < 0.3).astype(int)
    x = rng.standard_normal(len(labels)) + 1.5 * labels
    threshold = 0.75 + np.log(0.7 / 0.3) / 1.5
    np.testing.assert_allclose(threshold, 1.31486524, atol=5e-9)
    assert abs((labels != (x > threshold)).mean() - 0.19396282) < 0.003


IMAGES = np.zeros((2, 1, 4, 4))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: psnr(np.zeros((4, 4)), np.zeros((4, 4))), "x must be images"),
        (lambda: psnr(255 + IMAGES, 255 + IMAGES), "peak must be the range of a pixel"),
        (lambda: psnr(IMAGES, IMAGES[:1]), "restored must be images of the shape of x"),
        (lambda: blur(np.zeros((2, 8, 8, 3)), 1.0), "channels come last: move them to the front"),
        (lambda: blur(IMAGES, 0), "width must be a positive number, got 0"),
        (lambda: blur(np.nan + IMAGES, 1.0), "x must be finite"),
        (lambda: downsample(IMAGES, 3), "factor must be a divisor of height and width, 4 and 4"),
        (lambda: to_gray(IMAGES), "x must be images of 3 channels"),
        (lambda: hide(IMAGES, 0.5 + IMAGES), "mask must be zeros and ones of shape"),
        (lambda: hidden_error(IMAGES, IMAGES, 1 + IMAGES), "zeros among them"),
        (lambda: box_masks((1, 4, 4), 4, 1), "size must be an integer from 1 to 3, got 4"),
        (lambda: pixel_masks((1, 4, 4), 1.0, 1, seed=0), r"share must be a number in \(0, 1\)"),
        (lambda: add_noise(IMAGES, -1.0, seed=0), "scale must be a positive number"),
        (lambda: operator_matrix(lambda x: x + 1.0, (1, 2, 2)), "operator must be linear"),
        (lambda: operator_matrix(lambda x: x[:1], (1, 2, 2)), "gives 4 rows for as many images"),
        (lambda: iou([0, 1], [0, 3], 2), "predicted must be class numbers 0 to 1, got 3"),
        (
            lambda: coverage(IMAGES, np.zeros((38, *IMAGES.shape))),
            "at least 39 for a level of 0.95",
        ),
        (lambda: psnr(0.5 + IMAGES, IMAGES, peak=255.0), "whose largest is 0.5, got 255"),
        (lambda: linear_restorer(np.eye(1), np.eye(1), 1.0).restore([[np.nan]]), "finite numbers"),
        (lambda: linear_restorer(np.eye(1), np.eye(1), 1.0).draws([[1]], 0, seed=0), "num_draws"),
        (lambda: linear_restorer(-np.eye(2), np.eye(2), 1.0), "covariance must be positive"),
        (lambda: linear_restorer(np.eye(2), np.ones((2, 2)), 0.0), "noise_variance must be pos"),
        (lambda: linear_restorer(np.eye(2), np.eye(3), 1.0), r"operator must be a matrix \(out"),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
