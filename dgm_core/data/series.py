"""Time series."""

from __future__ import annotations

import csv

import numpy as np

from dgm_core.data.files import Remote, locate, reading

_URL = "https://github.com/statsmodels/statsmodels/raw/main/statsmodels/datasets/"
_ELNINO = Remote(
    "elnino/elnino.csv",
    (f"{_URL}elnino/elnino.csv",),
    "b647be00e0fd264be9764e317e6b963f35030014ecca2b21b204521716e463ad",
)
_CO2 = Remote(
    "co2/co2.csv",
    (f"{_URL}co2/co2.csv",),
    "16695fa2786e53414e5a6b54767a3fdf5de99cfbc68617f69d1362d92776a92f",
)


def elnino() -> np.ndarray:
    """The sea's surface temperature off Peru (Nino 1+2), monthly from January 1950 to December
    2010, in degrees Celsius: (732, 1).

    Raises:
        DataError: when the file is neither on this machine nor can be downloaded; it belongs at
            elnino/elnino.csv.

    References:
        NOAA Climate Prediction Center, by way of statsmodels.
    """
    path = locate(_ELNINO)
    with reading(path), path.open(newline="") as file:
        years = list(csv.reader(file))[1:]
        values = np.array([[float(month) for month in year[1:]] for year in years])
        if values.shape != (61, 12):
            raise ValueError(f"it must hold 61 years of 12 months, got {values.shape}")
    return values.reshape(-1, 1).astype(np.float32)


def co2() -> np.ndarray:
    """Carbon dioxide in the air at Mauna Loa, monthly from May 1964 to December 2001, in parts per
    million, means of the weeks that were measured: (452, 1).

    Raises:
        DataError: when the file is neither on this machine nor can be downloaded; it belongs at
            co2/co2.csv.

    References:
        Keeling & Whorf (2004), Scripps Institution of Oceanography, by way of statsmodels.
    """
    path = locate(_CO2)
    months: dict[str, list[float]] = {}
    with reading(path), path.open(newline="") as file:
        for day, value in list(csv.reader(file))[1:]:
            if value and day >= "196405":
                months.setdefault(day[:6], []).append(float(value))
        means = np.array([np.mean(months[month]) for month in sorted(months)])
        if means.shape != (452,):
            raise ValueError(f"it must hold 452 months from May 1964 on, got {len(means)}")
    return means.reshape(-1, 1).astype(np.float32)
