"""Time series."""

from __future__ import annotations

import csv

import numpy as np

from dgm_core.data.files import Remote, locate, reading

_URL = "https://github.com/statsmodels/statsmodels/raw/main/statsmodels/datasets/elnino/elnino.csv"
_CHECKSUM = "b647be00e0fd264be9764e317e6b963f35030014ecca2b21b204521716e463ad"


def elnino() -> np.ndarray:
    """The sea's surface temperature off Peru (Nino 1+2), monthly from January 1950 to December
    2010, in degrees Celsius: (732, 1).

    Raises:
        DataError: when the file is neither on this machine nor can be downloaded; it belongs at
            elnino/elnino.csv.

    References:
        NOAA Climate Prediction Center, by way of statsmodels.
    """
    path = locate(Remote("elnino/elnino.csv", (_URL,), _CHECKSUM))
    with reading(path), path.open(newline="") as file:
        years = list(csv.reader(file))[1:]
        values = np.array([[float(month) for month in year[1:]] for year in years])
        if values.shape != (61, 12):
            raise ValueError(f"it must hold 61 years of 12 months, got {values.shape}")
    return values.reshape(-1, 1).astype(np.float32)
