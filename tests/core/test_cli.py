"""The command line with a backend of numpy arrays: flags, files, resuming."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from dgm_core.cli.table import MODELS
from dgm_core.results import History
from tests.core.fake_backend import FILES, FakeBackend, config, one_line

pytestmark = pytest.mark.usefixtures("here")


# ------------------------------------------------------------
# fit


def test_fit_writes_everything(capsys):
    fake = FakeBackend()
    assert (
        fake(
            "fit",
            "vae",
            "--binarize",
            "dynamic",
            "--epochs",
            "2",
            "--output",
            "run",
            "--eval-particles",
            "30",
            "--quiet",
        )
        == 0
    )
    assert sorted(os.listdir("run")) == FILES
    call = fake.calls[0]
    assert call["data"].shape == (1297, 64)
    assert call["transform"] == fake.binarize
    assert set(np.unique(call["validation"])) == {0.0, 1.0}
    assert not set(np.unique(call["data"])) <= {0.0, 1.0}  # dynamic: drawn anew at every pass
    assert (
        call["num_epochs"],
        call["batch_size"],
        call["seed"],
        call["progress"],
        call["resume"],
    ) == (2, 128, 0, False, False)
    assert call["optim"].args == (1e-3,)
    assert repr(call["loss"]) == "ELBO(beta=1.0, num_particles=1, estimator='reparam')"
    stored = config("run")
    assert stored["arguments"]["epochs"] == 2
    assert stored["backend"] == "fake_dgm"
    assert stored["versions"]["numpy"] == np.__version__
    assert stored["num_data"] == {"train": 1297, "validation": 200, "test": 300}
    assert len(History.from_csv("run/metrics.csv")) == 2
    printed = capsys.readouterr()
    assert "IWAE-30" in printed.out
    assert "active units: 8 of 8" in printed.out
    assert "run: checkpoint, config.json" in printed.out
    assert printed.err == ""


@pytest.mark.usefixtures("no_pictures")
def test_default_folder():
    assert (
        FakeBackend()("fit", "vae", "--epochs", "1", "--eval-particles", "3", "--eval-data", "5")
        == 0
    )
    assert sorted(os.listdir("runs/vae-digits-fake")) == FILES


FITS = {
    "linear": (
        ["vae", "--hidden", "none", "--z-dim", "3"],
        {"posterior": (64,), "likelihood": (3,)},
    ),
    "sizes": (["vae", "--hidden", "100,50"], {"posterior": (50,), "likelihood": (100,)}),
    "convolutions": (
        ["conv_vae", "--hidden", "8"],
        {"posterior": (256,), "likelihood": ((16, 8, 8),)},
    ),
    "full rank": (
        ["vae", "--posterior", "full_rank", "--prior", "mixture"],
        {"posterior": (200,), "likelihood": (200,)},
    ),
    "pseudo-inputs": (
        ["vae", "--prior", "vamp"],
        {"posterior": (200,), "likelihood": (200,)},
    ),
    "a table of numbers": (
        ["vae", "--data", "two_moons"],
        {"posterior": (200,), "likelihood": (200,)},
    ),
}


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize(("flags", "contexts"), FITS.values(), ids=FITS)
def test_the_parts_fit_together(flags, contexts):
    fake = FakeBackend()
    assert (
        fake(
            "fit",
            *flags,
            "--epochs",
            "1",
            "--output",
            "run",
            "--eval-particles",
            "3",
            "--eval-data",
            "20",
        )
        == 0
    )
    assert sorted(os.listdir("run")) == FILES
    model = fake.calls[0]["model"]
    assert {name: (model.kwargs[name].kwargs["context_shape"],) for name in contexts} == contexts
    assert model.kwargs["likelihood"].args[0] == model.args[0]
    if "vamp" in flags:
        prior = model.kwargs["prior"]
        assert prior.kind == "VampPrior" and prior.kwargs == {"dim": 8, "bounds": (0.0, 1.0)}
    if flags[0] == "conv_vae":
        assert model.kind == "ConvVAE"
        assert fake.calls[0]["data"].shape == (1297, 1, 8, 8)
        assert model.kwargs["hidden_channels"] == (8,)


@pytest.mark.parametrize(
    ("likelihood", "kind", "values", "bits"),
    [
        ("bernoulli", "Bernoulli", "binary", False),
        ("continuous_bernoulli", "ContinuousBernoulli", "gray", False),
        ("normal", "Normal", "gray", False),
        ("logit_normal", "LogitNormal", "open", True),
        ("discretized_logistic", "DiscretizedLogisticMixture", "gray", True),
        ("gated_pixel_cnn", "GatedPixelCNN", "binary", False),
    ],
)
def test_every_likelihood_gets_its_kind_of_data(likelihood, kind, values, bits):
    fake = FakeBackend()
    assert (
        fake(
            "fit",
            "conv_vae" if likelihood == "gated_pixel_cnn" else "vae",
            "--likelihood",
            likelihood,
            "--epochs",
            "1",
            "--output",
            "run",
            "--eval-particles",
            "3",
        )
        == 0
    )
    call = fake.calls[0]
    assert call["model"].kwargs["likelihood"].kind == kind
    levels = np.unique(call["data"])
    assert (len(levels) == 17) == (values == "gray")
    if values == "open":
        assert 0 < levels[0] < levels[-1] < 1
    if likelihood == "discretized_logistic":
        assert call["model"].kwargs["likelihood"].kwargs["num_levels"] == 17
    assert ("bits_per_dim" in json.loads(Path("run/results.json").read_text())) == bits


@pytest.mark.usefixtures("no_pictures")
def test_static_data_are_the_same_for_every_seed():
    first, second = FakeBackend(), FakeBackend()
    flags = ["--binarize", "static", "--epochs", "1", "--eval-particles", "3"]
    assert first("fit", "vae", *flags, "--output", "a") == 0
    assert second("fit", "vae", *flags, "--output", "b", "--seed", "1") == 0
    assert first.calls[0]["transform"] is None
    assert set(np.unique(first.calls[0]["data"])) == {0.0, 1.0}
    np.testing.assert_array_equal(first.calls[0]["data"], second.calls[0]["data"])


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (
            ["--loss", "iwae", "--num-particles", "4", "--estimator", "dreg"],
            "IWAE(num_particles=4, estimator='dreg')",
        ),
        (["--loss", "iwae"], "IWAE(num_particles=10, estimator='reparam')"),
        (["--beta", "4"], "ELBO(beta=4.0, num_particles=1, estimator='reparam')"),
        (
            ["--warmup", "5", "--batch-size", "100"],
            "ELBO(beta=linear(65), num_particles=1, estimator='reparam')",
        ),
        (
            ["--warmup", "5", "--beta", "2", "--estimator", "stl"],
            "ELBO(beta=linear(55, end=2.0), num_particles=1, estimator='stl')",
        ),
    ],
)
def test_losses(flags, expected):
    fake = FakeBackend()
    assert (
        fake("fit", "vae", *flags, "--epochs", "1", "--output", "run", "--eval-particles", "3") == 0
    )
    assert config("run")["loss"] == expected


# ------------------------------------------------------------
# resume


@pytest.mark.usefixtures("no_pictures")
def test_resume_takes_the_flags_of_the_run():
    fake = FakeBackend()
    assert (
        fake(
            "fit",
            "vae",
            "--epochs",
            "1",
            "--hidden",
            "30,20",
            "--seed",
            "5",
            "--output",
            "run",
            "--eval-particles",
            "3",
        )
        == 0
    )
    assert fake("fit", "vae", "--resume", "--epochs", "3", "--output", "run") == 0
    first, second = (call for call in fake.calls if "resume" in call)
    assert (first["resume"], second["resume"]) == (False, True)
    assert second["num_epochs"] == 3
    assert second["seed"] == 5
    assert second["model"].kwargs["hidden"] == (30, 20)
    assert config("run")["arguments"]["epochs"] == 3


@pytest.mark.parametrize(
    ("flags", "match"),
    [
        (["vae", "--output", "run"], "run holds a run already: add --resume"),
        (["vae", "--output", "run", "--resume", "--seed", "1"], "has seed 0, not 1"),
        (["conv_vae", "--output", "run", "--resume"], "has model vae, not conv_vae"),
        (["vae", "--output", "other", "--resume"], "no run in other"),
    ],
)
def test_resume_refuses(capsys, flags, match):
    fake = FakeBackend()
    assert fake("fit", "vae", "--epochs", "1", "--output", "run", "--eval-particles", "3") == 0
    capsys.readouterr()
    assert fake("fit", *flags) == 2
    assert match in one_line(capsys)
    assert sum("resume" in call for call in fake.calls) == 1


@pytest.mark.usefixtures("no_pictures")
def test_a_refused_run_does_not_take_the_folder():
    flags = ["fit", "vae", "--epochs", "1", "--eval-particles", "3", "--output", "run"]
    assert FakeBackend(ValueError("batch_size is too large."))(*flags, "--batch-size", "5000") == 2
    assert FakeBackend()(*flags) == 0
    assert config("run")["arguments"]["batch_size"] == 128


@pytest.mark.parametrize(
    "contents",
    ["{", "[]", '{"arguments": {}}', '{"arguments": {}, "backend": "pyro_dgm", "model": "vae"}'],
)
def test_a_damaged_configuration(capsys, contents):
    Path("run").mkdir()
    Path("run/config.json").write_text(contents)
    assert FakeBackend()("fit", "vae", "--output", "run", "--resume") == 2
    assert "run" in one_line(capsys)


# ------------------------------------------------------------
# every model, evaluated and sampled

FLAGS = ("--epochs", "1", "--output", "run", "--eval-particles", "3", "--eval-data", "20")


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("name", MODELS)
def test_every_model_is_fitted_evaluated_and_drawn_from(name, capsys):
    model, fake = MODELS[name], FakeBackend()
    assert fake("fit", name, *FLAGS) == 0
    call = fake.calls[0]
    assert call["model"].kind == model.kind
    x, *classes = call["data"] if isinstance(call["data"], tuple) else (call["data"],)
    assert x.ndim == (4 if model.of_images else 2)
    assert len(classes) == model.labeled
    assert (call["validation"] is not None) == model.scored
    assert config("run")["arguments"]["loss"] == model.losses[0]
    before = json.loads(Path("run/results.json").read_text())
    assert ("active_units" in before, "mean" in before) == (model.inferred, model.scored)
    capsys.readouterr()
    assert fake("evaluate", "run", "--eval-data", "10", "--seed", "3") == 0
    assert "epoch" in capsys.readouterr().out
    assert json.loads(Path("run/results.json").read_text()) != before
    assert fake("sample", "run", "--size", "12", "--means") == 0
    assert "x (12, " in capsys.readouterr().out
    assert np.load("run/samples.npz")["x"].shape == (12, *x.shape[1:])
    size, data, means = fake.calls[-1]["drawn"]
    assert (size, len(data), means) == (12, 2 if name == "conditional_vae" else 0, True)
    assert fake("compare", "run", "run") == 0
    assert capsys.readouterr().out.count(name) >= 2
    assert fake("report", "run", "--eval-data", "10") == 0
    assert "run: report.html, report.csv" in capsys.readouterr().out
    loaded, reported = fake.calls[-2:]
    assert repr(loaded["loss"]) == config("run")["loss"]
    assert [len(part) for part in reported["reported"]] == [10] * (1 + model.labeled)
    assert reported["title"] == f"{name} on {model.data}, fake_dgm"
    labeled = model.data == "digits"
    assert (reported["labels"] is not None) == (reported["image_shape"] is not None) == labeled


@pytest.mark.usefixtures("no_pictures")
def test_a_damaged_folder_is_one_line(capsys):
    fake = FakeBackend()
    assert fake("fit", "vae", *FLAGS) == 0
    capsys.readouterr()
    stored = Path("run/config.json").read_text()
    for name, text, match in (
        ("config.json", stored.replace('"z_dim": 8', '"z_dim": 7'), "There is no run in"),
        ("config.json", stored.replace("fake_dgm", "other_dgm"), "use python -m other_dgm"),
        ("model.run", "", "There is no run in"),
    ):
        before = Path("run", name).read_text()
        Path("run", name).write_text(text)
        for command in ("evaluate", "sample", "report"):
            assert fake(command, "run") == 2
            assert match in one_line(capsys)
        Path("run", name).write_text(before)
    assert fake("evaluate", "run") == 0
