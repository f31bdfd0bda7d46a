"""The mutual-information gap of codes and factors."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from dgm_core.arguments import check_count
from dgm_core.representation.checks import as_codes, as_factors

__all__ = ["MutualInformationGap", "mutual_information_gap"]


class MutualInformationGap(NamedTuple):
    """score, the mean of per_factor (num_factors,);  mutual_information (dim, num_factors) and
    entropy (num_factors,) in nats."""

    score: float
    per_factor: np.ndarray
    mutual_information: np.ndarray
    entropy: np.ndarray

    def __repr__(self) -> str:
        return f"MutualInformationGap({self.score:.4g}, per factor {self.per_factor.round(3)})"


def mutual_information_gap(codes: Any, factors: Any, *, num_bins: int = 20) -> MutualInformationGap:
    """MIG = mean_k [I(z_(1); v_k) - I(z_(2); v_k)] / H(v_k), with z_(1) and z_(2) the two entries
    of the code that say most about factor v_k: 1 when one entry alone knows each factor.

    It does not ask that an entry know one factor only: use `dci` for that.

    Args:
        codes: (num_data, dim), such as the guide's means.
        factors: (num_data, num_factors), class numbers.
        num_bins: of equal width between the ends of an entry; an entry of no more different values
            keeps these. The estimate grows with the bins, by about (num_bins - 1) (classes - 1) /
            (2 num_data), and so does that of an entry that knows nothing.

    Raises:
        ValueError: for other shapes, codes that are not finite, factors that are no class numbers
            or have one value only.

    References:
        Chen, Li, Grosse and Duvenaud (2018), arXiv:1802.04942; bins as Locatello et al. (2019),
        arXiv:1811.12359.

    Example:
        >>> v = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
        >>> mutual_information_gap(v, v).score
        1.0
    """
    codes, num_bins = as_codes(codes), check_count("num_bins", num_bins, 2)
    factors = as_factors(factors, len(codes))
    for index, column in enumerate(factors):
        if column.dtype.kind != "i":
            as_whole = np.asarray(column)
            raise ValueError(
                f"The mutual-information gap takes factors that are class numbers (an array of "
                f"integers), got factor {index} of real numbers such as {as_whole[0]:.4g}: bin it."
            )
    binned = [_binned(column, num_bins) for column in codes.T]
    information = np.array([[_information(z, v) for v in factors] for z in binned])
    entropy = np.array([_information(v, v) for v in factors])
    ordered = np.sort(np.vstack([np.zeros(len(factors)), information]), 0)  # of a code of one entry
    per_factor = (ordered[-1] - ordered[-2]) / entropy
    return MutualInformationGap(float(per_factor.mean()), per_factor, information, entropy)


def _binned(z: np.ndarray, num_bins: int) -> np.ndarray:
    values, places = np.unique(z, return_inverse=True)
    if len(values) <= num_bins:
        return places
    edges = np.linspace(values[0], values[-1], num_bins + 1)[1:-1]
    return np.digitize(z, edges)


def _information(a: np.ndarray, b: np.ndarray) -> float:
    """I(a; b) in nats of the counts of two columns."""
    (_, a), (_, b) = (np.unique(x, return_inverse=True) for x in (a, b))
    joint = np.zeros((a.max() + 1, b.max() + 1))
    np.add.at(joint, (a, b), 1 / len(a))
    independent = joint.sum(1, keepdims=True) * joint.sum(0)
    seen = joint > 0
    return float(max(0.0, np.sum(joint[seen] * np.log(joint[seen] / independent[seen]))))
