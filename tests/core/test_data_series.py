"""Time series from files, with a file in the published layout."""

import numpy as np
import pytest

from dgm_core.data import DataError, co2, elnino


def test_months_stand_one_behind_the_other(tmp_path, monkeypatch):
    monkeypatch.setenv("DGM_DATA_DIR", str(tmp_path))
    rows = np.arange(61 * 12).reshape(61, 12) / 10
    lines = ['"YEAR",' + ",".join(f'"{month}"' for month in range(12))]
    lines += [f"{1950 + index}," + ",".join(map(str, row)) for index, row in enumerate(rows)]
    path = tmp_path / "elnino" / "elnino.csv"
    path.parent.mkdir()
    path.write_text("\n".join(lines))
    series = elnino()
    assert series.shape == (732, 1) and series.dtype == np.float32
    np.testing.assert_allclose(series[:, 0], np.arange(732) / 10, rtol=1e-6)
    path.write_text("\n".join(lines[:-1]))
    with pytest.raises(DataError, match="61 years of 12 months"):
        elnino()


def test_weeks_are_averaged_within_their_months(tmp_path, monkeypatch):
    monkeypatch.setenv("DGM_DATA_DIR", str(tmp_path))
    months = [f"{year}{month:02d}" for year in range(1964, 2002) for month in range(1, 13)][4:]
    lines = ["date,co2", "19640425,1.0"]  # before the months that were measured throughout
    for index, month in enumerate(months):
        lines += [f"{month}04,{index}.5", f"{month}11,", f"{month}18,{index + 1}.5"]
    path = tmp_path / "co2" / "co2.csv"
    path.parent.mkdir()
    path.write_text("\n".join(lines))
    series = co2()
    assert series.shape == (452, 1) and series.dtype == np.float32
    np.testing.assert_array_equal(series[:, 0], np.arange(452) + 1)
    path.write_text("\n".join(lines[:-3]))
    with pytest.raises(DataError, match="452 months"):
        co2()
