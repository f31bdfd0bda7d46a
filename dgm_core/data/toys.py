"""Two-dimensional distributions to look at: (num_samples, 2), float32, the same for the same seed.

Shapes as in the papers that made them common (Grathwohl et al. 2019, arXiv:1810.01367, and earlier
ones).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dgm_core.arguments import check_count, check_seed


def eight_gaussians(num_samples: int, seed: int = 0) -> np.ndarray:
    """Eight Gaussians (sd 0.5 / 1.414) on a circle of radius 4 / 1.414.

    Example:
        >>> eight_gaussians(5).shape
        (5, 2)
    """
    rng = _generator(num_samples, seed)
    angles = 2 * np.pi * rng.integers(8, size=num_samples) / 8
    centers = 4 * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    return _float32((centers + 0.5 * rng.standard_normal((num_samples, 2))) / np.sqrt(2))


def twenty_five_gaussians(num_samples: int, seed: int = 0) -> np.ndarray:
    """25 narrow Gaussians (sd 0.05) on the grid {-2, -1, 0, 1, 2}^2, the usual test for
    lost modes.
    """
    rng = _generator(num_samples, seed)
    return _float32(
        rng.integers(-2, 3, size=(num_samples, 2)) + 0.05 * rng.standard_normal((num_samples, 2))
    )


def two_moons(num_samples: int, seed: int = 0) -> np.ndarray:
    """Two interleaved half circles of radius 2 with noise of sd 0.2, centered."""
    rng = _generator(num_samples, seed)
    upper = rng.integers(2, size=num_samples) == 1
    angles = np.pi * rng.random(num_samples)
    x = np.where(upper, np.cos(angles) - 0.5, 0.5 - np.cos(angles))
    y = np.where(upper, np.sin(angles) - 0.25, 0.25 - np.sin(angles))
    return _float32(2 * np.stack([x, y], axis=-1) + 0.2 * rng.standard_normal((num_samples, 2)))


def spirals(num_samples: int, seed: int = 0) -> np.ndarray:
    """Two spirals that wind one and a half times around each other, with noise of sd 0.1."""
    rng = _generator(num_samples, seed)
    angles = 3 * np.pi * np.sqrt(rng.random(num_samples))
    sign = 2 * rng.integers(2, size=num_samples) - 1
    arms = (sign * angles)[:, None] * np.stack([-np.cos(angles), np.sin(angles)], axis=-1)
    return _float32(arms / 3 + 0.1 * rng.standard_normal((num_samples, 2)))


def pinwheel(num_samples: int, seed: int = 0) -> np.ndarray:
    """Five bent arms: Gaussians, long in the radius and narrow across, turned by an angle that
    grows with the radius.
    """
    rng = _generator(num_samples, seed)
    radial = 1 + 0.3 * rng.standard_normal(num_samples)
    across = 0.1 * rng.standard_normal(num_samples)
    turn = 2 * np.pi * rng.integers(5, size=num_samples) / 5 + 0.25 * np.exp(radial)
    x = radial * np.cos(turn) + across * np.sin(turn)
    y = across * np.cos(turn) - radial * np.sin(turn)
    return _float32(2 * np.stack([x, y], axis=-1))


def checkerboard(num_samples: int, seed: int = 0) -> np.ndarray:
    """Uniform on the eight dark squares of a 4x4 board over [-4, 4]^2."""
    rng = _generator(num_samples, seed)
    column = rng.integers(4, size=num_samples)
    row = 2 * rng.integers(2, size=num_samples) + column % 2
    corner = 2 * np.stack([column, row], axis=-1) - 4
    return _float32(corner + 2 * rng.random((num_samples, 2)))


TOYS: dict[str, Callable[[int, int], np.ndarray]] = {
    toy.__name__: toy
    for toy in (eight_gaussians, twenty_five_gaussians, two_moons, spirals, pinwheel, checkerboard)
}


def _generator(num_samples: int, seed: int) -> np.random.Generator:
    if isinstance(num_samples, int | np.integer) and num_samples < 1:
        raise ValueError(f"num_samples must be at least 1, got {num_samples}.")
    check_count("num_samples", num_samples)
    return np.random.default_rng(check_seed("seed", seed, 0))


def _float32(samples: np.ndarray) -> np.ndarray:
    return samples.astype(np.float32)
