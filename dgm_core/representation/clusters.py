"""Clusters against classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from dgm_core.representation.checks import as_labels

__all__ = ["clustering_accuracy"]


def clustering_accuracy(labels: Any, clusters: Any) -> float:
    """The share of data whose cluster is that of their class, under the best one-to-one map from
    clusters to classes (the Hungarian algorithm).

    With more clusters than classes some clusters have no class, and all their data count as wrong.
    `sklearn.metrics.normalized_mutual_info_score` and `adjusted_rand_score` need no map.

    Args:
        labels, clusters: (num_data,), numbers from 0 on; those of the clusters mean nothing.

    Raises:
        ValueError: for other shapes, NaN, and negative numbers: leave out points without a cluster
            before, and say how many.

    Cost:
        cubic in the number of clusters.

    References:
        Kuhn (1955), The Hungarian method; Xie, Girshick and Farhadi (2016), arXiv:1511.06335.

    Example:
        >>> clustering_accuracy([0, 0, 1], [1, 1, 0]), clustering_accuracy([0, 1], [0, 0])
        (1.0, 0.5)
    """
    labels = as_labels("labels", labels)
    clusters = as_labels("clusters", clusters, len(labels))
    _, rows = np.unique(labels, return_inverse=True)
    _, columns = np.unique(clusters, return_inverse=True)
    counts = np.zeros((rows.max() + 1, columns.max() + 1), int)
    np.add.at(counts, (rows, columns), 1)
    return float(counts[linear_sum_assignment(counts, maximize=True)].sum() / len(labels))
