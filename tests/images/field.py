"""A Gaussian field of images, whose restorations are known exactly."""

import numpy as np

SHAPE = (1, 4, 4)


def field_covariance(rho: float = 0.9, *, height: int = 4, width: int = 4) -> np.ndarray:
    """Covariance rho^(|row difference| + |column difference|) of the flattened pixels."""
    rows, columns = (rho ** abs(np.subtract.outer(*[np.arange(n)] * 2)) for n in (height, width))
    return np.kron(rows, columns)


def field(num: int, *, seed: int) -> np.ndarray:
    """Images (num, 1, 4, 4) of that field."""
    noise = np.random.default_rng(seed).standard_normal((num, 16))
    return (noise @ np.linalg.cholesky(field_covariance()).T).reshape(num, *SHAPE)
