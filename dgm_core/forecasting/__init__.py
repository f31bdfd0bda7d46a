"""Forecasts: what follows a sequence, as draws, and how good it is."""

from dgm_core.forecasting.forecast import Forecast, following
from dgm_core.forecasting.scores import (
    coverage,
    crps,
    interval_score,
    normal_crps,
    seasonal_naive,
)

__all__ = [
    "Forecast",
    "coverage",
    "crps",
    "following",
    "interval_score",
    "normal_crps",
    "seasonal_naive",
]
