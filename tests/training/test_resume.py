"""A run that was interrupted ends in exactly the same numbers as one that was left alone."""

import math
from typing import Any

import numpy as np
import pytest

from dgm_core.schedules import cyclical, linear
from dgm_core.training import checkpoint
from dgm_core.training.checkpoint import CheckpointError
from tests.training.faces import BITS, X


def small(face: Any, folder: Any, num_epochs: int | None, **changes: Any) -> Any:
    """A run that compiles in no time."""
    options = {"loss": face.losses.NLL(), "optim": face.training.Adam(0.1), "batch_size": 5}
    options |= {"checkpoint": folder, "num_epochs": num_epochs, **changes}
    return face.quiet(
        options.pop("model", face.mean_model), None, options.pop("data", X), **options
    )


def rich(face: Any, folder: Any, **changes: Any) -> Any:
    """A run with everything that has a state."""
    network = face.network()
    losses = face.losses
    loss = losses.ELBO(beta=cyclical(20))
    loss += 0.3 * losses.JensenShannon("z", face.critic(2), critic_steps=2)
    options = {"loss": loss, "optim": face.training.Adam(3e-3), "batch_size": 12, "patience": 10}
    options |= {"clip_norm": 0.5, "lr_schedule": linear(20, 1.0, 0.1), "average": 0.95}
    options |= {"validation": BITS[:10], "transform": face.training.binarize, "num_epochs": 4}
    return face.quiet(
        network.model, network.guide, 0.1 + 0.8 * BITS, checkpoint=folder, **{**options, **changes}
    )


def interrupt_at(epoch: int) -> Any:
    def callback(run: Any) -> None:
        if run.epoch == epoch:
            raise KeyboardInterrupt  # before the checkpoint of this epoch is written

    return callback


@pytest.mark.slow("numpyro")
def test_a_run_in_parts_is_the_run_in_one(face, tmp_path) -> None:
    """Interrupted, its checkpoint truncated, taken up again; then nothing is left to do."""
    expected = rich(face, None)
    with pytest.raises(KeyboardInterrupt):
        rich(face, tmp_path, callbacks=[interrupt_at(3)])
    path = tmp_path / "last.npz"
    assert checkpoint.load(path)[1]["epoch"] == 2
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.warns(UserWarning, match="Falling back"):
        run = rich(face, tmp_path)
    face.assert_equal(run, expected)
    face.assert_equal(rich(face, tmp_path), expected)


@pytest.mark.parametrize("as_stream", [False, True])
def test_a_run_in_steps_goes_on_inside_a_pass(face, tmp_path, as_stream) -> None:
    """Seven batches a pass, epochs of one pass, and the last epoch of three steps."""
    data = [X[i : i + 3] for i in range(0, 20, 3)] if as_stream else X
    options = {"data": data, "batch_size": None if as_stream else 3, "num_epochs": None}
    expected = small(face, None, num_steps=24, **options)
    assert expected.history.column("step").tolist() == [7, 14, 21, 24]
    with pytest.raises(KeyboardInterrupt):
        small(face, tmp_path, num_steps=24, callbacks=[interrupt_at(3)], **options)
    face.assert_equal(small(face, tmp_path, num_steps=24, **options), expected)
    longer = small(face, tmp_path, num_steps=30, **options)
    assert longer.history.column("step").tolist() == [7, 14, 21, 24, 30]
    whole = small(face, None, num_steps=30, **options)
    for name, value in face.params(whole).items():  # no draws: the same steps on the same batches
        np.testing.assert_array_equal(face.params(longer)[name], value)


def running_mean(face: Any) -> Any:
    """A term that keeps a running mean of the data."""

    class RunningMean(face.losses.Term):
        name, details, guided = "RunningMean", ("mean",), False

        def init_state(self, joints: Any, **key: Any) -> dict[str, Any]:
            return {"mean": face.np.zeros(3)}

        def update(
            self, state: dict[str, Any], joints: Any, step: Any, **key: Any
        ) -> dict[str, Any]:
            return {"mean": 0.9 * state["mean"] + 0.1 * joints.samples(("x",))[0].mean(0)}

        def estimate(self, joints: Any, step: Any) -> tuple[Any, dict[str, Any]]:
            mean = joints.state(self)["mean"]
            return ((joints.samples(("x",))[1].mean(0) - mean) ** 2).sum(), {"mean": mean.sum()}

    return RunningMean()


def test_a_term_with_a_state_of_its_own_goes_on(face, tmp_path) -> None:
    """To the bit; as it starts is as it would not end."""

    def run(folder: Any, **changes: Any) -> Any:
        return small(face, folder, 4, loss=face.losses.NLL() + 0.5 * running_mean(face), **changes)

    expected = run(None)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, callbacks=[interrupt_at(3)])
    found = run(tmp_path)
    face.assert_equal(found, expected)
    ours, theirs = (np.asarray(r.term_state["RunningMean"]["mean"]) for r in (found, expected))
    np.testing.assert_array_equal(ours, theirs)
    assert np.abs(theirs).max() > 0.1


def test_more_epochs_may_be_asked_for(face, tmp_path) -> None:
    small(face, tmp_path, 2)
    run = small(face, tmp_path, 5)
    face.assert_equal(run, small(face, None, 5))
    assert run.config["num_epochs"] == 5


@pytest.mark.slow("numpyro")
def test_a_search_and_constraints_go_on(face, tmp_path) -> None:
    def model(x: Any) -> None:
        constraints = face.constraints
        scale = face.param("scale", face.np.ones(3), constraint=constraints.positive)
        part = face.param("part", face.np.ones(3) / 3, constraint=constraints.simplex)
        with face.plate("data", len(x)):
            face.sample("x", face.dist.Normal(part, scale).to_event(1), obs=x)

    options = {"model": model, "optim": face.search(), "batch_size": None}
    small(face, tmp_path, 2, **options)
    face.assert_equal(small(face, tmp_path, 4, **options), small(face, None, 4, **options))


def test_patience_is_remembered(face, tmp_path) -> None:
    options = {"validation": -X, "validation_loss": face.losses.NLL(), "patience": 2}
    epochs = [small(face, tmp_path, epochs, **options).epoch for epochs in (2, 20, 20)]
    assert epochs == [2, 3, 3]


def test_a_run_that_a_callback_stopped_stays_stopped(face, tmp_path) -> None:
    stop = {"callbacks": [lambda run: run.epoch == 2]}
    for _ in range(3):
        assert small(face, tmp_path, 6, **stop).epoch == 2
    assert small(face, tmp_path, 6).epoch == 6


def test_an_interrupt_leaves_the_last_checkpoint(face, tmp_path) -> None:
    with pytest.raises(KeyboardInterrupt):
        small(face, tmp_path, 5, callbacks=[interrupt_at(3)])
    seen: list[int] = []
    run = small(face, tmp_path, 5, callbacks=[lambda run: seen.append(run.epoch)])
    assert seen == [3, 4, 5]
    face.assert_equal(run, small(face, None, 5))


def test_checkpoints_are_written_as_often_as_asked_and_at_the_end(face, tmp_path) -> None:
    path, seen = tmp_path / "last.npz", []

    def look(run: Any) -> None:
        seen.append(checkpoint.load(path)[1]["epoch"] if checkpoint.exists(path) else 0)

    small(face, tmp_path, 5, checkpoint_every=2, callbacks=[look])
    assert seen == [0, 0, 2, 2, 4]
    assert checkpoint.load(path)[1]["epoch"] == 5


def test_an_error_in_writing_carries_the_run(face, tmp_path, monkeypatch) -> None:
    def full(*_: Any) -> None:
        raise CheckpointError("The disk is full.")

    monkeypatch.setattr(checkpoint, "save", full)
    with pytest.raises(CheckpointError, match="The disk is full") as caught:
        small(face, tmp_path, 3)
    assert (
        caught.value.run.epoch == 1
        and np.isfinite(face.params(caught.value.run).popitem()[1]).all()
    )


@pytest.mark.parametrize(
    ("name", "change"),
    {
        "seed was 0 and is 5": lambda face: {"seed": 5},
        "batch_size": lambda face: {"batch_size": 2},
        "loss": lambda face: {"loss": linear(7) * face.losses.NLL()},
        "optim": lambda face: {"optim": face.training.Adam(1e-2)},
        "clip_norm": lambda face: {"clip_norm": 1.0},
        "data": lambda face: {"data": X + 1.0},
        "validation": lambda face: {"validation": X, "validation_loss": face.losses.NLL()},
    }.items(),
)
def test_other_arguments_are_refused(face, tmp_path, name, change) -> None:
    small(face, tmp_path, 1)
    with pytest.raises(CheckpointError, match=f"{name}.*resume=False"):
        small(face, tmp_path, 2, **change(face))
    small(face, tmp_path, 1, seed=7, resume=False)
    assert checkpoint.load(tmp_path / "last.npz")[1]["config"]["seed"] == 7


def test_a_factor_of_a_loss_counts(face, tmp_path) -> None:
    small(face, tmp_path, 1)
    with pytest.raises(CheckpointError, match=r"loss was .*NLL.* and is \[\[2.0, "):
        small(face, tmp_path, 2, loss=2.0 * face.losses.NLL())
    assert math.isfinite(small(face, tmp_path, 2).history.last["loss"])
