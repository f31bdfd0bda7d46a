"""How far two samples are from each other."""

from __future__ import annotations

import numpy as np

from dgm_core.arguments import check_choice, check_count, check_seed
from dgm_core.samples.two_sample import as_points

__all__ = ["sliced_wasserstein"]


def sliced_wasserstein(
    x: np.ndarray, y: np.ndarray, *, order: int = 2, num_projections: int = 200, seed: int = 0
) -> float:
    """The sliced Wasserstein distance of two samples: (mean over directions of W_p^p)^(1/p) between
    their projections on random directions.

    Between Normal(0, I) and Normal(m, I) in D dimensions it is |m| / sqrt(D) for p = 2, between
    Normal(0, I) and Normal(0, s^2 I) it is |s - 1|.  Two samples of n points of one distribution
    are some 1 / sqrt(n) apart.

    Args:
        x, y: samples (num, *event), of equal or different sizes.
        order: p, 1 or 2.
        num_projections: directions.
        seed: of the directions.

    Cost:
        two sorts per direction.

    Raises:
        ValueError: for different events, values that are not finite, and bad arguments.

    References:
        Bonneel et al. (2015), Sliced and Radon Wasserstein barycenters of measures, J. Math.
        Imaging Vis. 51.

    Example:
        >>> sliced_wasserstein([[0.0], [1.0]], [[3.0], [4.0]])
        3.0
    """
    order = int(check_choice("order", str(order), ("1", "2")))
    num_projections = check_count("num_projections", num_projections)
    if np.shape(x)[1:] != np.shape(y)[1:]:
        raise ValueError(
            f"Two samples need equal events, got shapes {np.shape(x)} and {np.shape(y)}."
        )
    x, y = as_points(x, "x"), as_points(y, "y")
    rng = np.random.default_rng(check_seed("seed", seed) % 2**64)
    directions = rng.standard_normal((x.shape[1], num_projections))
    directions /= np.linalg.norm(directions, axis=0)
    # both quantile functions are constant between the multiples of 1 / num_x and 1 / num_y
    edges = np.union1d(np.arange(1, len(x) + 1) / len(x), np.arange(1, len(y) + 1) / len(y))
    widths = np.diff(edges, prepend=0.0)
    middles = edges - widths / 2
    in_x, in_y = (np.minimum((middles * len(s)).astype(int), len(s) - 1) for s in (x, y))
    difference = np.sort(x @ directions, 0)[in_x] - np.sort(y @ directions, 0)[in_y]
    return float(np.mean(widths @ np.abs(difference) ** order) ** (1 / order))
