"""The command line with a backend of numpy arrays: flags, files, refusals, resuming."""

import json
import os
import types
from pathlib import Path

import numpy as np
import pytest

from dgm_core import cli, plots
from dgm_core.arviz_export import assemble
from dgm_core.results import History
from dgm_core.training.checkpoint import CheckpointError

FILES = ["checkpoint", "config.json", "latent.png", "losses.png", "metrics.csv", "posterior.nc"]
FILES += ["reconstructions.png", "results.json", "samples.png"]


class Part:
    """A module, prior, posterior, likelihood or loss that remembers how it was made."""

    def __init__(self, kind, *args, **kwargs):
        self.kind, self.args, self.kwargs = kind, args, kwargs
        if kind == "VAE" and args[1] > 100:
            raise ValueError(f"z_dim is too large, got {args[1]}.")

    def model(self):
        """Not called."""

    guide = model

    def __repr__(self):
        return f"{self.kind}({', '.join(f'{name}={value!r}' for name, value in self.kwargs.items())})"


class Module:
    """All names in a module are there."""

    def __getattr__(self, kind):
        return lambda *args, **kwargs: Part(kind, *args, **kwargs)


class FakeBackend:
    """Records what `fit` is given; evaluates to random numbers of the right shapes."""

    def __init__(self, fail=None):
        self.calls, self.fail = [], fail
        module = Module()
        self.backend = cli.Backend(
            name="fake_dgm",
            libraries=("numpy",),
            **dict.fromkeys(("models", "conditionals", "flows", "losses"), module),
            **{name: getattr(self, name) for name in ("fit", "log_weights", "to_arviz", "generate", "reconstruct", "latents")},
            Adam=module.Adam,
            binarize=self.binarize,
            maker=lambda seed: lambda cls, *args, **kwargs: cls(*args, **kwargs),
        )

    def __call__(self, *argv):
        return cli.main(self.backend, argv)

    def fit(self, model, guide, data, **options):
        self.calls.append({"model": model.__self__, "data": data, **options})
        if self.fail is not None:
            raise self.fail
        options["checkpoint"].mkdir(exist_ok=True)
        (options["checkpoint"] / "last.npz").touch()
        self.x, self.z_dim = data, model.__self__.args[1]
        rows = [{"epoch": i, "loss": 5.0 / i, "ELBO": -5.0 / i, "validation": 6.0 / i, "seconds": 0.5} for i in range(1, options["num_epochs"] + 1)]
        return types.SimpleNamespace(history=History(rows), epoch=options["num_epochs"], best_epoch=1)

    def binarize(self, batch):
        """Not called."""

    def log_weights(self, run, x, *, num_particles, seed):
        return np.random.default_rng(seed).normal(-30, 1, size=(num_particles, len(x)))

    def latents(self, run, x, *, seed, means, num_draws=1):
        return {"z": np.random.default_rng(seed).normal(size=(len(x), self.z_dim))}

    def reconstruct(self, run, x, *, seed):
        return {"x": np.full(x.shape, 0.5)}

    def generate(self, run, *, size, seed, means):
        return {"x": np.random.default_rng(seed).random((size, *self.x.shape[1:]))}

    def to_arviz(self, run, x, *, num_draws, seed):
        return assemble({"z": np.zeros((num_draws, len(x), self.z_dim))}, attrs={"seed": seed})


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def no_pictures(monkeypatch):
    """Pictures are drawn and written as empty files, which is quicker."""
    monkeypatch.setattr(plots, "save", lambda figure, path: Path(path).touch())


def config(folder):
    return json.loads((Path(folder) / "config.json").read_text())


# ---------------------------------------------------------------------------------------------------------------- fit


def test_fit_writes_everything(capsys):
    fake = FakeBackend()
    assert fake("fit", "vae", "--binarize", "dynamic", "--epochs", "2", "--output", "run", "--eval-particles", "30", "--quiet") == 0
    assert sorted(os.listdir("run")) == FILES
    (call,) = fake.calls
    assert call["data"].shape == (1297, 64)
    assert call["transform"] == fake.binarize
    assert set(np.unique(call["validation"])) == {0.0, 1.0}
    assert not set(np.unique(call["data"])) <= {0.0, 1.0}  # dynamic: drawn anew at every pass
    assert (call["num_epochs"], call["batch_size"], call["seed"], call["progress"], call["resume"]) == (2, 128, 0, False, False)
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
    assert FakeBackend()("fit", "vae", "--epochs", "1", "--eval-particles", "3", "--eval-data", "5") == 0
    assert sorted(os.listdir("runs/vae-digits-fake")) == FILES


FITS = {
    "linear": (["vae", "--hidden", "none", "--z-dim", "3"], {"posterior": (64,), "likelihood": (3,)}),
    "sizes": (["vae", "--hidden", "100,50"], {"posterior": (50,), "likelihood": (100,)}),
    "convolutions": (["conv_vae", "--hidden", "8"], {"posterior": (256,), "likelihood": (16 * 64,)}),
    "full rank": (["vae", "--posterior", "full_rank", "--prior", "mixture"], {"posterior": (200,), "likelihood": (200,)}),
    "a table of numbers": (["vae", "--data", "two_moons"], {"posterior": (200,), "likelihood": (200,)}),
}


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.usefixtures("no_pictures")
@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize(("flags", "contexts"), FITS.values(), ids=FITS)
def test_the_parts_fit_together(flags, contexts):
    fake = FakeBackend()
    assert fake("fit", *flags, "--epochs", "1", "--output", "run", "--eval-particles", "3", "--eval-data", "20") == 0
    assert sorted(os.listdir("run")) == FILES
    model = fake.calls[0]["model"]
    assert {name: (model.kwargs[name].kwargs["context_dim"],) for name in contexts} == contexts
    assert model.kwargs["likelihood"].args[0] == model.args[0]
    if flags[0] == "conv_vae":
        assert model.kind == "ConvVAE"
        assert fake.calls[0]["data"].shape == (1297, 1, 8, 8)
        assert model.kwargs["hidden_channels"] == (8,)
        assert model.kwargs["likelihood"].kwargs["pixelwise"]


@pytest.mark.parametrize(
    ("likelihood", "kind", "values", "bits"),
    [
        ("bernoulli", "Bernoulli", "binary", False),
        ("continuous_bernoulli", "ContinuousBernoulli", "grey", False),
        ("normal", "Normal", "grey", False),
        ("logit_normal", "LogitNormal", "open", True),
        ("discretized_logistic", "DiscretizedLogisticMixture", "grey", True),
    ],
)
def test_every_likelihood_gets_its_kind_of_data(likelihood, kind, values, bits):
    fake = FakeBackend()
    assert fake("fit", "vae", "--likelihood", likelihood, "--epochs", "1", "--output", "run", "--eval-particles", "3") == 0
    call = fake.calls[0]
    assert call["model"].kwargs["likelihood"].kind == kind
    levels = np.unique(call["data"])
    assert (len(levels) == 17) == (values == "grey")
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
        (["--loss", "iwae", "--num-particles", "4", "--estimator", "dreg"], "IWAE(num_particles=4, estimator='dreg')"),
        (["--loss", "iwae"], "IWAE(num_particles=10, estimator='reparam')"),
        (["--beta", "4"], "ELBO(beta=4.0, num_particles=1, estimator='reparam')"),
        (["--warmup", "5", "--batch-size", "100"], "ELBO(beta=linear(65), num_particles=1, estimator='reparam')"),
        (["--warmup", "5", "--beta", "2", "--estimator", "stl"], "ELBO(beta=linear(55, end=2.0), num_particles=1, estimator='stl')"),
    ],
)
def test_losses(flags, expected):
    fake = FakeBackend()
    assert fake("fit", "vae", *flags, "--epochs", "1", "--output", "run", "--eval-particles", "3") == 0
    assert config("run")["loss"] == expected


# ------------------------------------------------------------------------------------------------------------- resume


@pytest.mark.usefixtures("no_pictures")
def test_resume_takes_the_flags_of_the_run():
    fake = FakeBackend()
    assert fake("fit", "vae", "--epochs", "1", "--hidden", "30,20", "--seed", "5", "--output", "run", "--eval-particles", "3") == 0
    assert fake("fit", "vae", "--resume", "--epochs", "3", "--output", "run") == 0
    first, second = fake.calls
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
        (["vae", "--output", "other", "--resume"], "no run to resume in other"),
    ],
)
def test_resume_refuses(capsys, flags, match):
    fake = FakeBackend()
    assert fake("fit", "vae", "--epochs", "1", "--output", "run", "--eval-particles", "3") == 0
    capsys.readouterr()
    assert fake("fit", *flags) == 2
    assert match in one_line(capsys)
    assert len(fake.calls) == 1


@pytest.mark.usefixtures("no_pictures")
def test_a_refused_run_does_not_take_the_folder():
    flags = ["fit", "vae", "--epochs", "1", "--eval-particles", "3", "--output", "run"]
    assert FakeBackend(ValueError("batch_size is too large."))(*flags, "--batch-size", "5000") == 2
    assert FakeBackend()(*flags) == 0
    assert config("run")["arguments"]["batch_size"] == 128


@pytest.mark.parametrize("contents", ["{", "[]", '{"arguments": {}}', '{"arguments": {}, "backend": "pyro_dgm", "model": "vae"}'])
def test_a_damaged_configuration(capsys, contents):
    Path("run").mkdir()
    Path("run/config.json").write_text(contents)
    assert FakeBackend()("fit", "vae", "--output", "run", "--resume") == 2
    assert "run" in one_line(capsys)


# ----------------------------------------------------------------------------------------------------------- refusals


def one_line(capsys):
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert printed.err.startswith("fake_dgm: ")
    return printed.err


@pytest.mark.parametrize(
    ("flags", "match"),
    [
        ([], "the following arguments are required"),
        (["train"], "invalid choice: 'train'"),
        (["fit"], "required: model"),
        (["fit", "gan"], "invalid choice: 'gan'"),
        (["fit", "vae", "--epoch", "3"], "unrecognized arguments: --epoch 3"),
        (["fit", "vae", "--epochs", "0"], "--epochs: must be a whole number of at least 1, got '0'"),
        (["fit", "vae", "--epochs", "many"], "got 'many'"),
        (["fit", "vae", "--learning-rate", "-1"], "--learning-rate: must be a positive number, got '-1'"),
        (["fit", "vae", "--beta", "nan"], "--beta: must be a number of at least 0, got 'nan'"),
        (["fit", "vae", "--hidden", "200,x"], "must be sizes like 200,200, or none, got '200,x'"),
        (["fit", "vae", "--data", "minst"], "invalid choice: 'minst'"),
        (["fit", "vae", "--loss", "iwae", "--estimator", "stl"], "--estimator stl does not go with --loss iwae, which takes reparam, dreg"),
        (["fit", "vae", "--loss", "iwae", "--beta", "2"], "--beta and --warmup weight the KL part"),
        (["fit", "vae", "--loss", "iwae", "--warmup", "2"], "the iwae bound has none"),
        (["fit", "vae", "--likelihood", "normal", "--binarize", "static"], "not for normal"),
        (["fit", "vae", "--data", "two_moons", "--binarize", "static"], "not for normal"),
        (["fit", "vae", "--data", "two_moons", "--likelihood", "beta"], "needs grey levels in [0, 1]"),
        (["fit", "conv_vae", "--data", "two_moons"], "conv_vae needs images"),
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


# --------------------------------------------------------------------------------------------------- list and compare


def test_list(capsys):
    assert FakeBackend()("list") == 0
    printed = capsys.readouterr().out
    for word in ("digits", "mnist", "two_moons", "conv_vae", "full_rank", "mixture", "discretized_logistic", "iwae (reparam, dreg)"):
        assert word in printed


@pytest.mark.usefixtures("no_pictures")
def test_compare(capsys):
    fake = FakeBackend()
    for number, name in enumerate(["one", "two"]):
        fake("fit", "vae", "--epochs", "2", "--output", name, "--eval-particles", "30", "--seed", str(number))
    capsys.readouterr()
    assert fake("compare", "one", "two") == 0
    header, _, first, second = capsys.readouterr().out.splitlines()
    assert header.split()[:8] == ["run", "backend", "data", "posterior", "prior", "loss", "ELBO", "IWAE-30"]
    assert first.startswith("one  fake_dgm  digits")
    assert second.startswith("two  fake_dgm  digits")
