"""A backend of numpy arrays, for the tests of the command line."""

import json
import types
from pathlib import Path

import numpy as np

from dgm_core import cli
from dgm_core.arviz_export import assemble
from dgm_core.report import RunReport
from dgm_core.results import History
from dgm_core.training.checkpoint import CheckpointError

FILES = ["checkpoint", "config.json", "latent.png", "losses.png", "metrics.csv", "model.run"]
FILES += ["posterior.nc", "reconstructions.png", "results.json", "samples.png"]


class Part:
    """A module, prior, posterior, likelihood or loss that remembers how it was made."""

    def __init__(self, kind, *args, **kwargs):
        self.kind, self.args, self.kwargs = kind, args, kwargs
        if kind == "VAE" and args[1] > 100:
            raise ValueError(f"z_dim is too large, got {args[1]}.")

    def model(self):
        """Not called."""

    guide = model

    def __add__(self, other):
        return Part("Sum", self, other)

    def __rmul__(self, weight):
        return self

    def __repr__(self):
        return (
            f"{self.kind}({', '.join(f'{name}={value!r}' for name, value in self.kwargs.items())})"
        )


class Module:
    """All names in a module are there."""

    def __getattr__(self, kind):
        return lambda *args, **kwargs: Part(kind, *args, **kwargs)


class FakeRun(types.SimpleNamespace):
    """What `fit` returns; it is saved as its model's arguments."""

    def save(self, path):
        Path(path).write_text(repr(self.model.args))


def codes_of(run):
    """The name and the size of the latents that are shown."""
    sizes = run.model.args[1]
    return ("z1", sizes[0]) if isinstance(sizes, tuple) else ("z", sizes)


class FakeBackend:
    """Records what `fit` is given; evaluates to random numbers of the right shapes."""

    def __init__(self, fail=None):
        self.calls, self.fail = [], fail
        module = Module()
        training = types.SimpleNamespace(
            fit=self.fit, load_run=self.load_run, Adam=module.Adam, binarize=self.binarize
        )
        evaluation = types.SimpleNamespace(
            **{
                name: getattr(self, name)
                for name in (
                    "log_weights",
                    "to_arviz",
                    "generate",
                    "reconstruct",
                    "latents",
                    "report",
                )
            }
        )
        package = types.SimpleNamespace(
            **dict.fromkeys(("models", "conditionals", "flows", "losses"), module),
            training=training,
            evaluation=evaluation,
        )
        self.backend = cli.Backend(
            name="fake_dgm",
            libraries=("numpy",),
            package=package,
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
        return self.run(model.__self__, options["num_epochs"])

    def load_run(self, path, model, guide, loss=None):
        if not path.exists() or path.read_text() != repr(model.__self__.args):
            raise CheckpointError(f"There is no run in {path}.")
        self.calls.append({"loaded": model.__self__, "loss": loss})
        return self.run(model.__self__, 1)

    def run(self, model, num_epochs):
        rows = [
            {"epoch": i, "loss": 5.0 / i, "ELBO": -5.0 / i, "validation": 6.0 / i, "seconds": 0.5}
            for i in range(1, num_epochs + 1)
        ]
        return FakeRun(model=model, history=History(rows), epoch=num_epochs, best_epoch=1)

    def binarize(self, batch):
        """Not called."""

    def log_weights(self, run, x, *classes, num_particles, seed, enumerate=()):
        return np.random.default_rng(seed).normal(-30, 1, size=(num_particles, len(x)))

    def latents(self, run, x, *classes, seed, means, num_draws=1):
        name, width = codes_of(run)
        return {name: np.random.default_rng(seed).normal(size=(len(x), width))}

    def reconstruct(self, run, x, *classes, seed):
        return {"x": np.full(x.shape, 0.5)}

    def generate(self, run, *data, size=None, seed, means):
        shape = run.model.args[0] if isinstance(run.model.args[0], tuple) else run.model.args[:1]
        size = len(data[1]) if size is None else size
        self.calls.append({"drawn": (size, data, means)})
        return {"x": np.random.default_rng(seed).random((size, *shape))}

    def report(self, run, *data, **options):
        self.calls.append({"reported": data, **options})
        return RunReport(options["title"], [{"part": "a", "quantity": "b", "value": 1}])

    def to_arviz(self, run, x, *classes, num_draws, seed):
        z = np.zeros((num_draws, len(x), codes_of(run)[1]))
        return assemble({"z": z}, attrs={"seed": seed})


def config(folder):
    return json.loads((Path(folder) / "config.json").read_text())


def one_line(capsys):
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert printed.err.startswith("fake_dgm: ")
    return printed.err
