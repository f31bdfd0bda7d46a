"""A run that goes on is the run that was begun: whatever else decides its numbers is refused."""

import functools
import json
import operator
import os
import subprocess
import sys
import threading
import types
from pathlib import Path

import numpy as np
import pytest

from dgm_core.training import checkpoint
from dgm_core.training.checkpoint import CheckpointError
from dgm_core.training.identity import describe, difference, unchecked
from tests.source_tree import ROOT

X = np.arange(12, dtype=np.float32).reshape(6, 2)
RATE = 1.0


class Weight:
    """A weight with its number in a place of its own, and a method that does the work."""

    def __init__(self, value=0.5):
        self._value = value

    def __call__(self, step):
        return self.scaled(2.0)

    def scaled(self, factor):
        return factor * self._value


class Otherwise(Weight):
    """The same with another method."""

    def scaled(self, factor):
        return factor + self._value


def reads_a_global(step):
    return RATE


class Problem:
    """x_n ~ Normal(activation(mu), scale), and a prior that nobody uses."""

    def __init__(self, face, *, scale=1.0, activation="tanh", prior=None):
        self.face, self.scale, self.activation = face, scale, activation
        self._prior = face.dist.Normal(0.0, 1.0) if prior is None else prior

    def model(self, x):
        mu = self.face.param("mu", self.face.np.zeros(2))
        with self.face.plate("data", len(x)):
            loc = getattr(self.face.np, self.activation)(mu)
            self.face.sample("x", self.face.dist.Normal(loc, self.scale).to_event(1), obs=x)

    def other(self, x):
        mu = self.face.param("mu", self.face.np.zeros(2))
        with self.face.plate("data", len(x)):
            self.face.sample("x", self.face.dist.Normal(mu, self.scale).to_event(1), obs=x)


def closure(value):
    return lambda step: value


def shift(face, number):
    """A transform of the batch, which in NumPyro takes a key."""
    if face.name == "pyro":
        return lambda batch: batch + number
    return lambda batch, key: batch + number


def run(face, folder, **changes):
    """A run with something of everything, made anew at each call."""
    options = {
        "model": Problem(face).model,
        "data": [X[:3], X[3:]],
        "loss": face.losses.NLL() * Weight(),
        "validation": X,
        "validation_loss": face.losses.NLL() * closure(1.0),
        "optim": face.sgd(0.1),
        "lr_schedule": functools.partial(max, 1.0),
        "transform": shift(face, 0.0),
        "num_epochs": 1,
        "checkpoint": folder,
        "compile": False,
        **changes,
    }
    return face.quiet(options.pop("model"), None, options.pop("data"), **options)


# What differs in one number or one name from what `run` makes.
OTHERS = {
    "number": lambda face: {"loss": face.losses.NLL() * Weight(0.25)},
    "method": lambda face: {"loss": face.losses.NLL() * Otherwise()},
    "class": lambda face: {"loss": face.losses.NLL() * closure(0.5)},
    "sum": lambda face: {"loss": face.losses.NLL() * Weight() + face.losses.NLL()},
    "closure": lambda face: {"validation_loss": face.losses.NLL() * closure(2.0)},
    "code": lambda face: {"validation_loss": face.losses.NLL() * (lambda step: 1.0)},
    "validation": lambda face: {"validation": X + 1.0},
    "partial": lambda face: {"lr_schedule": functools.partial(max, 2.0)},
    "function": lambda face: {"lr_schedule": functools.partial(min, 1.0)},
    "transform": lambda face: {"transform": shift(face, 1.0)},
    "scale": lambda face: {"model": Problem(face, scale=2.0).model},
    "array": lambda face: {"model": Problem(face, scale=face.np.ones(2)).model},
    "activation": lambda face: {"model": Problem(face, activation="sin").model},
    "model": lambda face: {"model": Problem(face).other},
    "prior": lambda face: {"model": Problem(face, prior=face.dist.Normal(0.0, 2.0)).model},
    "batch": lambda face: {"data": [X[:3], X[3:] + 1.0]},
    "batches": lambda face: {"data": [X[:4], X[4:]]},
    "more batches": lambda face: {"data": [X[:3], X[3:], X[:3]]},
    "stream": lambda face: {"data": lambda: [X[:3], X[3:]]},
    "optimizer": lambda face: {"optim": face.sgd(0.2)},
    "handler": lambda face: {"model": face.scaled(Problem(face).model, 2.0)},
    "other optimizer": lambda face: {"optim": face.training.Adam(0.1)},
}
REFUSED = r"belongs to a run with other arguments: .* was .* and is .*resume=False"


@pytest.fixture(scope="module")
def begun(face, tmp_path_factory):
    """A folder with one epoch of the run."""
    folder = tmp_path_factory.mktemp(face.name)
    assert run(face, folder).epoch == 1
    return folder


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_another_run_is_refused(face, begun, other):
    with pytest.raises(CheckpointError, match=REFUSED):
        run(face, begun, num_epochs=2, **other(face))


def test_the_same_run_goes_on(face, tmp_path):
    """Equal arguments, made anew and in another order of calls, are equal."""
    run(face, tmp_path)
    assert run(face, tmp_path, num_epochs=2, patience=5, callbacks=[print]).epoch == 2
    face.assert_equal(run(face, tmp_path, num_epochs=3), run(face, None, num_epochs=3))


def test_a_global_that_was_changed(face, tmp_path, monkeypatch):
    def train(**options):
        return run(face, tmp_path, loss=face.losses.NLL() * reads_a_global, **options)

    train()
    monkeypatch.setitem(globals(), "RATE", 3.0)
    with pytest.raises(CheckpointError, match=r"RATE was 1\.0 and is 3\.0"):
        train(num_epochs=2)
    monkeypatch.undo()
    assert train(num_epochs=2).epoch == 2


def test_wrapped_functions_are_looked_into():
    """Caches, methods of containers, modules of the user, and classes that only hold functions."""
    alone = types.ModuleType("alone")
    alone.RATE = 1.0
    sys.modules["alone"] = alone
    scope = {"alone": alone}
    reads = eval("lambda step: alone.RATE * step", scope)
    pairs = [
        (functools.lru_cache(lambda x: x), functools.lru_cache(lambda x: 2 * x)),
        (np.vectorize(lambda x: x), np.vectorize(lambda x: 2 * x)),
        ([1.0, 2.0].__getitem__, [1.0, 3.0].__getitem__),
        ({0: 1.0}.get, {0: 2.0}.get),
        (operator.itemgetter(1), operator.itemgetter(2)),
        (functools.partial(pow, 2), functools.partial(pow, 3)),
        (Path("a"), Path("b")),
        ({1, 2}, {1, 3}),
        (np.ma.masked_array([1.0, 2.0], [0, 1]), np.ma.masked_array([1.0, 2.0], [0, 0])),
    ]
    for left, right in pairs:
        assert describe(left) == describe(left)
        assert difference(describe(left), describe(right)), left
        assert not unchecked(describe(left)), left
    before = describe(reads)
    alone.RATE = 2.0
    del sys.modules["alone"]
    assert difference(before, describe(reads)) == ["alone.RATE was 1.0 and is 2.0"]


@pytest.mark.slow("numpyro")
def test_code_whose_parts_use_each_other_has_a_short_description():
    """Of 18 functions, each of which calls the two before it, 4,181 ways lead to the first."""

    def chain(rate):
        first = second = lambda x: x * rate
        for _ in range(18):
            first, second = (lambda x, f=first, g=second: f(x) + g(x)), first
        return first

    description = describe(chain(0.5))
    assert len(json.dumps(description)) < 50_000
    assert description == describe(chain(0.5))
    assert difference(description, describe(chain(0.6)))
    assert unchecked(describe(chain(threading.Lock())))


def test_networks_and_critics_are_recognized(face, tmp_path):
    """By sizes, rates and activations; not by the weights that they begin with."""

    def train(num_epochs=1, *, dropout=0.0, width=4, critic="relu", **options):
        networks = face.networks(2, width=width, dropout=dropout, critic=critic)
        term = face.losses.JensenShannon("x", networks.critic, **options)
        settings = {"num_epochs": num_epochs, "checkpoint": tmp_path, "compile": False}
        return face.quiet(networks.model, None, X, loss=term, **settings)

    train()
    for changes, words in [
        ({"dropout": 0.5}, r"model\..* was 0\.0 and is 0\.5"),
        ({"width": 5}, r"loss\.critic\..*hidden\[0\] was 4 and is 5"),
        ({"critic": "tanh", "critic_steps": 2}, r"'relu' and is 'tanh'; loss\.critic_steps was 1"),
    ]:
        with pytest.raises(CheckpointError, match=words):
            train(2, **changes)
    assert train(2).epoch == 2


class Opaque:
    """An object that holds what nobody can look into."""

    def __init__(self):
        self.rng = np.random.default_rng(0)

    def __call__(self, step):
        return 1.0


def test_what_cannot_be_looked_into_is_said(face, tmp_path):
    run(face, tmp_path, loss=face.losses.NLL() * Opaque())
    with pytest.warns(UserWarning, match=r"without a comparison of .*rng \(numpy\.random"):
        again = run(face, tmp_path, loss=face.losses.NLL() * Opaque(), num_epochs=2)
    assert again.epoch == 2


@pytest.mark.parametrize("folder", [5, "", " ", b"run", True, "a\0b", ["run"], 1.5])
def test_what_is_no_folder(face, folder):
    with pytest.raises(ValueError, match="checkpoint must be the path of a folder, got"):
        run(face, folder)


def test_the_folder_is_tried_out_before_the_first_step(face, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "taken" / "last.npz").mkdir(parents=True)

    def never(*args):
        raise AssertionError("the model was run")

    for folder in (tmp_path / "file", tmp_path / "file" / "run", tmp_path / "taken"):
        with pytest.raises(CheckpointError, match="cannot hold checkpoints"):
            run(face, folder, model=never)


def test_the_home_folder(face, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    run(face, "~/run")
    assert (tmp_path / "run" / "last.npz").is_file()
    assert not (tmp_path / "~").exists()


def test_two_runs_in_one_folder(face, tmp_path):
    def second(first):
        with pytest.raises(CheckpointError, match="Another run writes to"):
            run(face, tmp_path)

    assert run(face, tmp_path, callbacks=[second], num_epochs=2).epoch == 2
    assert run(face, tmp_path, num_epochs=3).epoch == 3  # it is free again


def test_a_checkpoint_that_cannot_be_written_hands_over_the_run(face, tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(CheckpointError, match=r"No space left.*Free some space") as caught:
        run(face, tmp_path, num_epochs=3)
    monkeypatch.undo()
    assert caught.value.run.epoch == 1
    expected = run(face, None)
    for name, value in face.params(expected).items():
        np.testing.assert_array_equal(face.params(caught.value.run)[name], value)


def test_a_file_of_something_else_is_refused(face, tmp_path):
    checkpoint.save(tmp_path / "last.npz", {"weight": np.ones(3)}, {"epoch": 1})
    with pytest.raises(CheckpointError, match="does not say which run it belongs to"):
        run(face, tmp_path)
    assert run(face, tmp_path, resume=False).epoch == 1


SCRIPT = """
import sys
import numpy as np
from tests.training.faces import NumPyroFace, PyroFace
face = PyroFace() if sys.argv[1] == "pyro" else NumPyroFace()

class Scaled:
    def __init__(self, scale): self.scale = scale
    def __call__(self, step): return {inside}

RATE, SIZES = {rate}, {{"b": (1, 2), "a": {{3, 1, 2}}}}
def model(x):
    mu = face.param("mu", face.np.zeros(2))
    with face.plate("data", len(x)):
        face.sample("x", face.dist.Normal(mu, RATE * len(SIZES)).to_event(1), obs=x)

run = face.quiet(model, None, np.ones((4, 2), np.float32), loss=face.losses.NLL() * Scaled(1.0),
                 optim=face.sgd(0.1), num_epochs=int(sys.argv[3]), checkpoint=sys.argv[2],
                 compile=False)
print(run.epoch)
"""


@pytest.mark.slow
def test_another_process_with_the_same_program(face, tmp_path):
    def process(num_epochs, inside="self.scale", rate="2.0", seed="1"):
        code = SCRIPT.format(inside=inside, rate=rate)
        done = subprocess.run(
            [sys.executable, "-c", code, face.name, str(tmp_path), str(num_epochs)],
            capture_output=True, text=True, check=False, cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed},
        )  # fmt: skip
        return done.stdout.strip() or done.stderr.strip().splitlines()[-1]

    assert process(1) == "1"
    assert process(2, seed="2") == "2"
    assert "RATE was 2.0 and is 3.0" in process(3, rate="3.0")
    assert "__call__.code was" in process(3, inside="2 * self.scale")
