"""Which draw of the noise goes to which datum: the assignment of least cost."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

__all__: list[str] = []  # for the package, not for users


def assigned(costs: np.ndarray) -> np.ndarray:
    """The column of each row of a square matrix so that the sum of the entries is least, no column
    twice; as they stand where an entry is not finite, so that NaN stays in what is computed of
    the rows.

    Example:
        >>> assigned(np.array([[3.0, 1.0], [1.0, 2.0]]))
        array([1, 0])
    """
    if not np.isfinite(costs).all():
        return np.arange(len(costs))
    return np.asarray(linear_sum_assignment(costs)[1], np.int64)
