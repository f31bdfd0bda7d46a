"""The command line with the real backends: train, resume, evaluate, open the files."""

import importlib
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from pandas import read_csv

from dgm_core.cli.table import MODELS
from dgm_core.results import History, read_json
from tests.source_tree import TWINS

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import arviz as az

FLAGS = [
    "--hidden",
    "16",
    "--z-dim",
    "2",
    "--batch-size",
    "256",
    "--eval-particles",
    "25",
    "--eval-data",
    "20",
    "--quiet",
]


@pytest.fixture(params=TWINS)
def run(request, tmp_path, monkeypatch):
    """`main` of one backend, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return importlib.import_module(f"{request.param}.__main__").main


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning"
)
def test_fit_and_resume(run, capsys):
    assert run(["fit", "vae", "--epochs", "1", "--warmup", "2", "--output", "out", *FLAGS]) == 0
    files, first = sorted(os.listdir("out")), History.from_csv("out/metrics.csv")
    assert run(["fit", "vae", "--epochs", "2", "--resume", "--output", "out", "--quiet"]) == 0
    assert sorted(os.listdir("out")) == files
    history = History.from_csv("out/metrics.csv")
    assert len(history) == 2
    assert history[0] == first[0]  # to the last digit, the seconds too: the epoch was not run again
    assert read_json("out/results.json")["epoch"] == 2

    idata = az.from_netcdf("out/posterior.nc")
    assert len(az.summary(idata, var_names=["z"])) == 20 * 2
    assert az.loo(idata).n_data_points == 20
    assert az.plot_pair(idata, var_names=["z"], coords={"datum": [0]}) is not None
    capsys.readouterr()
    assert run(["compare", "out"]) == 0
    assert "IWAE-25" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.long("[numpyro")
def test_convolutions_with_other_parts(run):
    parts = [
        "--likelihood",
        "discretized_logistic",
        "--posterior",
        "full_rank",
        "--prior",
        "mixture",
        "--loss",
        "iwae",
        "--estimator",
        "dreg",
    ]
    assert (
        run(
            [
                "fit",
                "conv_vae",
                *parts,
                "--epochs",
                "1",
                "--output",
                "out",
                *FLAGS,
                "--hidden",
                "4",
                "--batch-size",
                "1000",
            ]
        )
        == 0
    )
    assert len(os.listdir("out")) == 10
    assert read_json("out/results.json")["bits_per_dim"] > 0


def tiny(model):
    """Flags of the smallest model of this name."""
    flags = ["--epochs", "1", "--batch-size", "1000", "--eval-particles", "5", "--eval-data", "9"]
    flags += ["--z-dim", "2"] if "z_dim" in MODELS[model].flags else []
    return flags + (["--hidden", "4"] if "hidden" in MODELS[model].flags else [])


@pytest.mark.parametrize(
    "model",
    [m if m == "gan" else pytest.param(m, marks=pytest.mark.slow) for m in MODELS],
)
def test_every_command(run, model, capsys):
    """Fit, evaluate, draw, compare, report: the weights that are read back are those of the fit."""
    flags = tiny(model)
    assert run(["fit", model, *flags, "--output", "out", "--quiet"]) == 0
    before = read_json("out/results.json")
    assert run(["evaluate", "out"]) == 0
    after = read_json("out/results.json")
    assert after["samples"] == pytest.approx(before["samples"], rel=1e-4)
    if "mean" in before:
        assert after["mean"]["IWAE"] == pytest.approx(before["mean"]["IWAE"], rel=1e-4)
    assert run(["sample", "out", "--size", "7", "--seed", "3"]) == 0
    capsys.readouterr()
    assert run(["compare", "out", "out"]) == 0
    assert capsys.readouterr().out.count(model) >= 2
    assert len(np.load("out/samples.npz")["x"]) == 7
    assert np.isfinite(np.load("out/samples.npz")["x"]).all()
    assert run(["sample", "out", "--size", "0"]) == 2
    assert run(["report", "out"]) == 0
    printed = capsys.readouterr().out
    assert "failed" not in printed
    assert read_csv("out/report.csv")["quantity"].str.startswith("parameters").sum() == 3
    assert "<h2>Loss</h2>" in Path("out/report.html").read_text()


def test_what_the_library_refuses_is_one_line(run, capsys):
    assert (
        run(["fit", "vae", "--epochs", "1", "--output", "out", *FLAGS, "--batch-size", "5000"]) == 2
    )
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1
    assert "5000" in printed.err
    assert "1297" in printed.err
