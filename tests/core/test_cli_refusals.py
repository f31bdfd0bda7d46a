"""What the command line refuses, lists and compares, with a backend of numpy arrays."""

import types
from pathlib import Path

import pytest

from dgm_core.cli.table import MODELS
from dgm_core.training.checkpoint import CheckpointError
from tests.core.fake_backend import FakeBackend, one_line

pytestmark = pytest.mark.usefixtures("here")


# ------------------------------------------------------------
# refusals


@pytest.mark.parametrize(
    ("flags", "match"),
    [
        ([], "the following arguments are required"),
        (["train"], "invalid choice: 'train'"),
        (["fit"], "required: model"),
        (["fit", "gann"], "invalid choice: 'gann'"),
        (
            ["fit", "image_to_image"],
            "such as ImageToImage, CycleGAN, BigGAN and MaskedAutoencoder, are",
        ),
        (["fit", "vae", "--epoch", "3"], "unrecognized arguments: --epoch 3"),
        (
            ["fit", "vae", "--epochs", "0"],
            "--epochs: must be a whole number from 1 to 1000000000, got '0'",
        ),
        (["fit", "vae", "--epochs", "many"], "got 'many'"),
        (
            ["fit", "vae", "--learning-rate", "-1"],
            "--learning-rate: must be a positive number, got '-1'",
        ),
        (["fit", "vae", "--beta", "nan"], "--beta: must be a number of at least 0, got 'nan'"),
        (["fit", "vae", "--hidden", "200,x"], "must be sizes like 200,200, or none, got '200,x'"),
        (["fit", "vae", "--data", "minst"], "invalid choice: 'minst'"),
        (
            ["fit", "vae", "--loss", "iwae", "--estimator", "stl"],
            "--estimator stl does not go with --loss iwae, which takes reparam, dreg",
        ),
        (["fit", "vae", "--loss", "iwae", "--beta", "2"], "--beta does not go with --loss iwae"),
        (
            ["fit", "vae", "--loss", "iwae", "--warmup", "2"],
            "--warmup does not go with",
        ),
        (["fit", "vae", "--likelihood", "normal", "--binarize", "static"], "not for normal"),
        (["fit", "vae", "--data", "two_moons", "--binarize", "static"], "not for normal"),
        (
            ["fit", "vae", "--data", "two_moons", "--likelihood", "beta"],
            "needs gray levels in [0, 1]",
        ),
        (["fit", "conv_vae", "--data", "two_moons"], "conv_vae needs images"),
        (["fit", "conditional_gan", "--data", "spirals"], "conditional_gan needs classes"),
        (["fit", "gan", "--loss", "elbo"], "which takes jensen_shannon, wasserstein"),
        (["fit", "gan", "--posterior", "iaf"], "--posterior does not go with gan"),
        (
            ["fit", "gan", "--prior", "vamp"],
            "encoder and posterior of a VAE without classes, which",
        ),
        (["fit", "conditional_vae", "--prior", "vamp"], "which conditional_vae has not: take"),
        (["fit", "flow_gan", "--z-dim", "3"], "--z-dim does not go with flow_gan"),
        (["fit", "gan", "--patience", "3"], "gan has none"),
        (["evaluate"], "required: RUN"),
        (["evaluate", "nothing"], "There is no run in nothing: config.json is missing"),
        (["sample", "nothing"], "There is no run in nothing: config.json is missing"),
        (["report", "nothing"], "There is no run in nothing: config.json is missing"),
        (["sample", "nothing", "--size", "0"], "--size: must be a whole number from 1"),
        (["fit", "vae", "--z-dim", "101"], "z_dim is too large, got 101."),
        (["compare", "nothing"], "nothing does not hold the results of a finished run"),
    ],
)
def test_bad_flags(capsys, flags, match):
    assert FakeBackend()(*flags) == 2
    assert match in one_line(capsys)
    assert not Path("runs").exists()


def test_sequences_are_no_vectors(capsys, monkeypatch):
    sequences = types.SimpleNamespace(name="jsb_chorales", lengths={})
    monkeypatch.setattr("dgm_core.cli.building.load", lambda name: sequences)
    assert FakeBackend()("fit", "vae", "--data", "jsb_chorales") == 2
    assert "sequences" in one_line(capsys)


def test_a_missing_data_file(capsys, monkeypatch):
    monkeypatch.setenv("DGM_DATA_DIR", "nowhere")
    assert FakeBackend()("fit", "vae", "--data", "mnist") == 2
    assert "DGM_DATA_DIR is set to nowhere, which is not a folder" in one_line(capsys)


def test_an_output_that_is_a_file(capsys):
    Path("taken").write_text("")
    assert FakeBackend()("fit", "vae", "--output", "taken") == 2
    assert "taken" in one_line(capsys)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ValueError("batch_size is larger\nthan the data."), 2),
        (CheckpointError("No readable checkpoint."), 2),
        (OSError(28, "No space left on device"), 2),
        (FloatingPointError("NaN at step 3 in site z."), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_what_fit_raises(capsys, error, status):
    assert FakeBackend(error)("fit", "vae", "--output", "run") == status
    line = one_line(capsys)
    assert "--resume" in line if status == 130 else " ".join(str(error).split()) in line


def test_our_own_mistakes_show_their_traceback():
    with pytest.raises(TypeError):
        FakeBackend(TypeError("a bug"))("fit", "vae", "--output", "run")


def test_help_is_no_error(capsys):
    with pytest.raises(SystemExit) as caught:
        FakeBackend()("fit", "--help")
    assert caught.value.code == 0
    assert "--learning-rate" in capsys.readouterr().out


# ------------------------------------------------------------
# list and compare


def test_list(capsys):
    assert FakeBackend()("list") == 0
    printed = capsys.readouterr().out
    for word in (
        *MODELS,
        "digits",
        "mnist",
        "two_moons",
        "conv_vae",
        "full_rank",
        "mixture",
        "discretized_logistic",
        "iwae (reparam, dreg)",
    ):
        assert word in printed


@pytest.mark.usefixtures("no_pictures")
def test_compare(capsys):
    fake = FakeBackend()
    for number, name in enumerate(["one", "two"]):
        fake(
            "fit",
            "vae",
            "--epochs",
            "2",
            "--output",
            name,
            "--eval-particles",
            "30",
            "--seed",
            str(number),
        )
    capsys.readouterr()
    assert fake("compare", "one", "two") == 0
    header, _, first, second = capsys.readouterr().out.splitlines()
    assert header.split()[:9] == [
        "run",
        "backend",
        "model",
        "data",
        "posterior",
        "prior",
        "loss",
        "ELBO",
        "IWAE-30",
    ]
    assert first.startswith("one  fake_dgm  vae    digits")
    assert second.startswith("two  fake_dgm  vae    digits")
