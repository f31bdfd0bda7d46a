"""What `assemble` makes is written, read and understood by ArviZ."""

import warnings

import numpy as np
import pytest

from dgm_core.arviz_export import assemble, axis_names
from dgm_core.results import History

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import arviz as az


@pytest.fixture
def pieces():
    rng = np.random.default_rng(0)
    num_draws, num_data = 200, 12
    z = rng.normal(size=(num_draws, num_data, 2)).astype(np.float32)
    x = rng.normal(size=(num_data, 3)).astype(np.float32)
    return {
        "posterior": {"z": z, "scale": rng.gamma(2.0, size=num_draws)},
        "log_likelihood": {"x": rng.normal(-3, 0.3, size=(num_draws, num_data))},
        "posterior_predictive": {"x": rng.normal(size=(num_draws, num_data, 3))},
        "observed_data": {"x": x},
        "sample_stats": {"lp": rng.normal(size=num_draws)},
        "diagnostics": {"khat": rng.normal(0.3, 0.1, size=num_data)},
        "history": History(
            [{"epoch": 1, "loss": 5.0, "ELBO/KL": 1.0}, {"epoch": 2, "loss": 4.0, "note": "end"}]
        ),
        "dims": {"z": ["datum"]},
        "attrs": {"loss": "ELBO()", "hidden": (200, 200), "seed": 0, "resume": True},
    }


@pytest.fixture
def idata(pieces, tmp_path):
    """Written and read again."""
    path = tmp_path / "posterior.nc"
    assemble(**pieces).to_netcdf(str(path))
    return az.from_netcdf(str(path))


def test_groups_and_dimensions(idata, pieces):
    assert dict(idata.posterior["z"].sizes) == {"chain": 1, "draw": 200, "datum": 12, "z_dim_1": 2}
    np.testing.assert_array_equal(idata.posterior["z"].values[0], pieces["posterior"]["z"])
    assert dict(idata.log_likelihood["x"].sizes) == {"chain": 1, "draw": 200, "datum": 12}
    assert idata.posterior_predictive["x"].shape == (1, 200, 12, 3)
    assert idata.observed_data["x"].dims[0] == "datum"
    np.testing.assert_array_equal(idata.sample_stats["khat"].values, pieces["diagnostics"]["khat"])
    assert idata.sample_stats["khat"].dims == ("datum",)
    assert idata.sample_stats["lp"].shape == (1, 200)
    np.testing.assert_array_equal(idata.losses["loss"].values, [5.0, 4.0])
    np.testing.assert_array_equal(idata.losses["ELBO.KL"].values, [1.0, np.nan])
    np.testing.assert_array_equal(idata.losses["epoch"].values, [1, 2])
    assert "note" not in idata.losses
    assert idata.attrs["loss"] == "ELBO()"
    assert idata.attrs["hidden"] == "[200, 200]"
    assert idata.attrs["resume"] == "true"


@pytest.mark.filterwarnings(
    "ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning"
)
def test_summary_pair_plot_and_loo(idata):
    table = az.summary(idata, var_names=["scale"])
    assert table.loc["scale", "mean"] == pytest.approx(
        float(idata.posterior["scale"].mean()), abs=1e-2
    )
    assert len(az.summary(idata)) == 12 * 2 + 1
    axes = az.plot_pair(idata, var_names=["z"], coords={"datum": [0]})
    assert axes is not None
    result = az.loo(idata, pointwise=True)
    assert result.n_data_points == 12
    assert float(result.elpd_loo) == pytest.approx(-36, abs=2)


def test_diagnostics_without_other_statistics(pieces):
    idata = assemble(pieces["posterior"], diagnostics=pieces["diagnostics"])
    assert idata.groups() == ["posterior", "sample_stats"]
    assert "losses" not in assemble(pieces["posterior"], history=History()).groups()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"posterior": {"z": np.zeros((100, 12))}}, "same number of draws, got z: 100"),
        ({"observed_data": {"x": np.zeros((11, 3))}}, "same number of data, got x: 11"),
        ({"diagnostics": {"khat": np.zeros(11)}}, "same number of data"),
    ],
)
def test_sizes_are_checked(pieces, change, match):
    with pytest.raises(ValueError, match=match):
        assemble(**{**pieces, **change})


def test_no_draws():
    with pytest.raises(ValueError, match="no draws in z"):
        assemble({"z": np.zeros((0, 3))})


def test_sites_in_different_plates(tmp_path):
    """Crossed plates, a scalar observation, and a plate with the name of a site."""
    y, z, pair = np.zeros((50, 20)), np.zeros((10, 50, 2)), np.zeros((10, 4))
    idata = assemble(
        {"z": z, "pair": pair},
        log_likelihood={"y": np.zeros((10, 50, 20)), "total": np.zeros(10)},
        observed_data={"y": y, "total": np.float64(3.0)},
        dims={"y": ["students", "items"], "z": ["students"], "total": [], "pair": ["pair"]},
    )
    idata.to_netcdf(str(tmp_path / "crossed.nc"))
    read = az.from_netcdf(str(tmp_path / "crossed.nc"))
    assert read.log_likelihood["y"].dims == ("chain", "draw", "students", "items")
    assert read.posterior["z"].dims == ("chain", "draw", "students", "z_dim_1")
    assert read.posterior["pair"].dims == ("chain", "draw", "pair_plate")
    assert read.observed_data["total"].size == 1
    assert read.log_likelihood["total"].shape == (1, 10)
    with pytest.raises(ValueError, match="same number of students, got y: 50, z: 3"):
        assemble(
            {"z": z[:, :3]}, observed_data={"y": y}, dims={"y": ["students"], "z": ["students"]}
        )


def test_without_latents():
    assert assemble({}, observed_data={"x": np.zeros(3)}).groups() == ["observed_data"]


def test_axis_names():
    crossed = {"items": (-1, 20), "students": (-2, 50)}
    assert axis_names("y", (50, 20, 3), 1, crossed) == ["students", "items"]
    assert axis_names("y", (7, 50, 20), 0, crossed) == ["y_dim_0", "students", "items"]
    assert axis_names("mean", (50, 20, 3), None, crossed) == ["students", "items"]
    assert axis_names("total", (3,), None, crossed) == []
    assert axis_names("scale", (3,), None, {}) == []
