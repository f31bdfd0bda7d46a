"""The sliced Wasserstein distance against closed forms."""

import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from dgm_core.samples.distances import sliced_wasserstein

RNG = np.random.default_rng(0)


def test_shifted_and_scaled_normals() -> None:
    """|m| / sqrt(D) and |s - 1| for p = 2."""
    x = RNG.normal(size=(4000, 5))
    shift = np.array([1.0, -2.0, 0.5, 0.0, 3.0])
    exact = np.linalg.norm(shift) / np.sqrt(5)
    assert sliced_wasserstein(x + shift, x, num_projections=4000) == pytest.approx(exact, rel=0.02)
    other = RNG.normal(size=(4000, 5))
    assert sliced_wasserstein(1.7 * x, other) == pytest.approx(0.7, abs=0.03)
    assert sliced_wasserstein(x, other) < 0.05


def test_one_dimension_and_unequal_sizes() -> None:
    x, y = RNG.exponential(size=(7, 1)), RNG.normal(size=(11, 1))
    exact = wasserstein_distance(x[:, 0], y[:, 0])
    assert sliced_wasserstein(x, y, order=1) == pytest.approx(exact, rel=1e-12)
    repeated = sliced_wasserstein(np.repeat(x, 11, 0), np.repeat(y, 7, 0))
    assert sliced_wasserstein(x, y) == pytest.approx(repeated, rel=1e-12)


def test_in_the_plane_directions_are_uniform() -> None:
    """One point against another: p = 1 gives the mean of |cos|, 2 / pi, times the distance."""
    found = sliced_wasserstein([[0.0, 0.0]], [[3.0, 4.0]], order=1, num_projections=20_000)
    assert found == pytest.approx(5 * 2 / np.pi, rel=0.02)


def test_what_is_refused() -> None:
    for arguments, options, words in (
        (([[1.0]], [[1.0, 2.0]]), {}, "Two samples need equal events"),
        (([[1.0]], [[np.nan]]), {}, "y must be finite, got 1 values that are not"),
        (([[1.0]], [[1.0]]), {"order": 3}, "order must be one of '1', '2'"),
    ):
        with pytest.raises(ValueError, match=words):
            sliced_wasserstein(*arguments, **options)
