"""A NumPyro run that is killed and resumed ends in the same numbers, to the bit, as one that was
left alone.
"""

import os
import random
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
import pytest

from dgm_core.schedules import linear
from dgm_core.training import checkpoint
from dgm_core.training.checkpoint import CheckpointError
from numpyro_dgm.losses import NLL
from numpyro_dgm.training import Adam, fit, resuming
from tests.training.numpyro_killed import train

AS_USERS_COMPILE = True

ROOT = Path(__file__).parents[2]


def assert_same(a, b):
    """Weights, running statistics and history are equal to the bit."""
    left, right = (jax.tree.leaves((run.params, run.mutable_state)) for run in (a, b))
    for x, y in zip(left, right, strict=True):
        np.testing.assert_array_equal(x, y)
    rows = [
        [{name: value for name, value in row.items() if name != "seconds"} for row in run.history]
        for run in (a, b)
    ]
    assert rows[0] == rows[1]
    assert (a.epoch, a.best_epoch) == (b.epoch, b.best_epoch)


@pytest.fixture(scope="module")
def undisturbed():
    return train(None, 8)


def test_killed_at_a_random_moment(tmp_path, undisturbed):
    """SIGKILL after a random time, twice over in one folder; then the run goes on here, in another
    process.
    """
    rng = random.Random()
    command = [sys.executable, "-m", "tests.training.numpyro_killed", str(tmp_path), "8"]
    epochs = []
    for _ in range(2):
        with subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        ) as process:
            epochs.append(int(process.stdout.readline()))
            process.stdout.readline()  # the epoch before is saved
            time.sleep(rng.random() * 0.15)
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
    assert epochs[1] > epochs[0]
    assert checkpoint.load(tmp_path / "last.npz")[1]["epoch"] < 8
    assert_same(train(tmp_path, 8), undisturbed)


def test_interrupted_with_a_truncated_checkpoint(tmp_path, undisturbed):
    def interrupt(run):
        if run.epoch == 4:
            raise KeyboardInterrupt  # before the checkpoint of this epoch is written

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, 8, callbacks=[interrupt])
    path = tmp_path / "last.npz"
    assert checkpoint.load(path)[1]["epoch"] == 3
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.warns(UserWarning, match="Falling back"):
        run = train(tmp_path, 8)
    assert_same(run, undisturbed)
    assert_same(train(tmp_path, 8), undisturbed)  # nothing is left to do


def model(x):
    with numpyro.plate("data", len(x)):
        numpyro.sample("x", dist.Normal(numpyro.param("mu", jnp.zeros(3)), 1.0).to_event(1), obs=x)


X = np.arange(30, dtype=np.float32).reshape(10, 3)


def small(folder, num_epochs, **changes):
    """A run that compiles in no time."""
    arguments = {
        "loss": NLL(),
        "optim": Adam(0.1),
        "batch_size": 5,
        "checkpoint": folder,
        "num_epochs": num_epochs,
        "progress": False,
        **changes,
    }
    return fit(model, None, X, **arguments)


def test_more_epochs_may_be_asked_for(tmp_path):
    small(tmp_path, 2)
    run = small(tmp_path, 5)
    assert_same(run, small(None, 5))
    assert run.config["num_epochs"] == 5


def test_patience_is_remembered(tmp_path):
    arguments = {"validation": -X, "validation_loss": NLL(), "patience": 2}
    assert [small(tmp_path, epochs, **arguments).epoch for epochs in (2, 20, 20)] == [2, 3, 3]


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"seed": 5}, "seed was 0 and is 5"),
        ({"batch_size": 2}, "batch_size"),
        ({"loss": NLL() * 2.0}, "loss"),
        ({"loss": linear(7) * NLL()}, "loss"),
        ({"optim": Adam(1e-2)}, "optim"),
        ({"clip_norm": 1.0}, "clip_norm"),
        ({"validation": X, "validation_loss": NLL()}, "validation"),
    ],
)
def test_other_arguments_are_refused(tmp_path, change, name):
    small(tmp_path, 1)
    with pytest.raises(CheckpointError, match=f"{name}.*resume=False"):
        small(tmp_path, 2, **change)


def test_other_data_and_other_parameters_are_refused(tmp_path):
    small(tmp_path, 1)
    for data in (X + 1.0, X[:, :2]):
        wide = partial(model) if data.shape == X.shape else lambda x: model(jnp.c_[x, x[:, :1]])
        with pytest.raises(CheckpointError, match="data was"):
            fit(
                wide,
                None,
                data,
                loss=NLL(),
                optim=Adam(0.1),
                batch_size=5,
                checkpoint=tmp_path,
                progress=False,
            )


@pytest.mark.parametrize("name", ["adam", "chain", "numpyro", "schedule"])
def test_numbers_inside_functions_count(tmp_path, name):
    optimisers = {
        "adam": optax.adam,
        "chain": lambda rate: optax.chain(optax.clip(1.0), optax.sgd(rate)),
        "numpyro": numpyro.optim.Adam,
    }

    def arguments(rate):
        return (
            {"lr_schedule": lambda step: rate}
            if name == "schedule"
            else {"optim": optimisers[name](rate)}
        )

    small(tmp_path, 1, **arguments(0.1))
    assert small(tmp_path, 2, **arguments(0.1)).epoch == 2
    with pytest.raises(CheckpointError, match="lr_schedule" if name == "schedule" else "optim"):
        small(tmp_path, 3, **arguments(0.2))


def test_afresh(tmp_path):
    small(tmp_path, 1)
    run = small(tmp_path, 1, seed=5, resume=False)
    assert run.config["seed"] == 5
    assert checkpoint.load(tmp_path / "last.npz")[1]["config"]["seed"] == 5


def test_checkpoints_are_written_every_few_epochs_and_at_the_end(tmp_path):
    seen = []

    def look(run):
        seen.append(
            checkpoint.load(tmp_path / "last.npz")[1]["epoch"]
            if checkpoint.exists(tmp_path / "last.npz")
            else 0
        )

    small(tmp_path, 5, checkpoint_every=2, callbacks=[look])
    assert seen == [0, 0, 2, 2, 4]
    assert checkpoint.load(tmp_path / "last.npz")[1]["epoch"] == 5


def test_every_kind_of_leaf_survives(tmp_path):
    tree = {
        "typed key": jax.random.key(1),
        "typed keys": jax.random.split(jax.random.key(2, impl="rbg"), 3),
        "raw key": jax.random.PRNGKey(3),
        "half": jnp.arange(3, dtype=jnp.bfloat16),
        "bits": jnp.array([True, False]),
        "count": jnp.zeros((), jnp.int32),
        "nothing": None,
    }
    resuming.save(tmp_path, tree, {"identity": {}})
    arrays, _ = resuming.load(tmp_path, {})
    back = resuming.rebuilt(arrays, tree)
    for (path, before), after in zip(
        jax.tree_util.tree_leaves_with_path(tree), jax.tree.leaves(back), strict=True
    ):
        assert before.dtype == after.dtype, path
        if jnp.issubdtype(before.dtype, jax.dtypes.prng_key):
            before, after = jax.random.key_data(before), jax.random.key_data(after)
        np.testing.assert_array_equal(before, after)
    with pytest.raises(CheckpointError, match="another state"):
        resuming.rebuilt(arrays, {"other": jnp.zeros(2)})
