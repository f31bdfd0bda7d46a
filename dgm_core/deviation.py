"""How uncertain a decoder is at a code: little near the codes of data, much away from them, as a
network of radial functions has it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.spatial.distance import cdist

__all__ = ["RadialDeviation", "radial_deviation"]


class RadialDeviation(NamedTuple):
    """s(z) with 1 / s(z)^2 = sum_k weight exp(-rate_k |z - center_k|^2) + 1 / far^2.

    centers (num_centers, d);  rates (num_centers,);  weight;  far, to which s grows.
    """

    centers: np.ndarray
    rates: np.ndarray
    weight: float
    far: float

    def __call__(self, z: np.ndarray) -> np.ndarray:
        """s at codes (n, d), (n,)."""
        return (self._terms(z).sum(-1) + self.far**-2) ** -0.5

    def gradient(self, z: np.ndarray) -> np.ndarray:
        """That of s at codes (n, d), (n, d)."""
        terms = self._terms(z)
        weights = 2 * terms * self.rates
        slope = weights.sum(-1)[:, None] * z - weights @ self.centers  # of -1 / s^2
        return 0.5 * (terms.sum(-1) + self.far**-2)[:, None] ** -1.5 * slope

    def _terms(self, z: np.ndarray) -> np.ndarray:
        return self.weight * np.exp(-self.rates * cdist(z, self.centers, "sqeuclidean"))


def radial_deviation(
    codes: np.ndarray, num_centers: int, *, near: float, far: float, width: float, seed: int
) -> RadialDeviation:
    """Centers by k-means, each as wide as `width` times the mean distance of its codes; the weight
    is such that the mean of 1 / s^2 over the codes is 1 / near^2 + 1 / far^2.

    Args:
        codes: of data, (n, d).

    References:
        Arvanitidis, Hansen & Hauberg (2018), Latent space oddity, arXiv:1710.11379, section 4.

    Example:
        >>> z = np.array([[0.0], [0.1], [5.0], [5.1]])
        >>> found = radial_deviation(z, 2, near=0.1, far=1.0, width=1.0, seed=0)
        >>> found(np.array([[0.0], [2.5]])).round(2).tolist()
        [0.1, 1.0]
    """
    from sklearn.cluster import KMeans

    means = KMeans(num_centers, n_init=3, random_state=seed).fit(codes)
    apart = np.linalg.norm(codes - means.cluster_centers_[means.labels_], axis=-1)
    total = np.bincount(means.labels_, apart, num_centers)
    widths = total / np.bincount(means.labels_, minlength=num_centers)
    widths = width * np.maximum(widths, 0.1 * apart.mean() + 1e-12)  # centers of a single code
    found = RadialDeviation(means.cluster_centers_, 0.5 / widths**2, 1.0, far)
    return found._replace(weight=float(near**-2 / found._terms(codes).sum(-1).mean()))
