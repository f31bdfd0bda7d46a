"""Whether codes tell known factors of the data apart: the mutual-information gap, DCI, linear
probes, and the accuracy of clusters.

Of clusters, `sklearn.metrics` also has `normalized_mutual_info_score` and `adjusted_rand_score`.
"""

from dgm_core.representation.clusters import clustering_accuracy
from dgm_core.representation.dci import DCI, dci, dci_of
from dgm_core.representation.gap import MutualInformationGap, mutual_information_gap
from dgm_core.representation.probes import Probe, linear_probe

__all__ = [
    "DCI",
    "MutualInformationGap",
    "Probe",
    "clustering_accuracy",
    "dci",
    "dci_of",
    "linear_probe",
    "mutual_information_gap",
]
