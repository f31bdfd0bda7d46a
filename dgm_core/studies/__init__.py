"""Studies of guides: tables that compare them, calibration, and their pictures."""

from dgm_core.studies.calibration import Calibration, ecdf_band, rank_of, uniformity
from dgm_core.studies.comparison import Attempt, Comparison, reference_errors
from dgm_core.studies.gaps import InferenceGaps

__all__ = [
    "Attempt",
    "Calibration",
    "Comparison",
    "InferenceGaps",
    "ecdf_band",
    "rank_of",
    "reference_errors",
    "uniformity",
]
