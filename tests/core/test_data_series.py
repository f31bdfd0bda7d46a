"""Time series from files, with a file in the published layout."""

import numpy as np
import pytest

from dgm_core.data import DataError, elnino


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
