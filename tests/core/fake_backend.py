"""A backend of numpy arrays, for the tests of the command line."""

import json
import types
from pathlib import Path

import numpy as np

from dgm_core import cli
from dgm_core.arviz_export import assemble
from dgm_core.results import History

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
        return (
            f"{self.kind}({', '.join(f'{name}={value!r}' for name, value in self.kwargs.items())})"
        )


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
            **{
                name: getattr(self, name)
                for name in ("fit", "log_weights", "to_arviz", "generate", "reconstruct", "latents")
            },
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
        rows = [
            {"epoch": i, "loss": 5.0 / i, "ELBO": -5.0 / i, "validation": 6.0 / i, "seconds": 0.5}
            for i in range(1, options["num_epochs"] + 1)
        ]
        return types.SimpleNamespace(
            history=History(rows), epoch=options["num_epochs"], best_epoch=1
        )

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


def config(folder):
    return json.loads((Path(folder) / "config.json").read_text())


def one_line(capsys):
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert printed.err.startswith("fake_dgm: ")
    return printed.err
