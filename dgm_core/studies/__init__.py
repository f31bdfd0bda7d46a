"""Studies of guides: tables that compare them, calibration, and their pictures."""

from dgm_core.studies.comparison import Attempt, Comparison, reference_errors

__all__ = ["Attempt", "Comparison", "reference_errors"]
