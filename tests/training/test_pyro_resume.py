"""A run that was interrupted ends in exactly the same numbers as one that was left alone."""

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pyro_dgm import NLL
from pyro_dgm.training import Run, fit

from .pyro_pairs import density
from .pyro_resumable import train

ROOT = Path(__file__).parents[2]


def equal(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_a_run_killed_at_random_steps_ends_in_the_same_numbers(tmp_path: Path) -> None:
    _, expected = train(None, critics=True)
    assert any("JensenShannon" in name and "weight" in name for name in expected)
    command = [
        sys.executable,
        "-m",
        "tests.training.pyro_resumable",
        str(tmp_path / "run"),
        str(tmp_path / "result.npz"),
    ]
    for after in (1, 4):
        killed = subprocess.run(
            [*command, str(after)], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False
        )
        assert killed.returncode == -signal.SIGKILL, killed.stdout
    finished = subprocess.run(
        [*command, "0"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    assert int(finished.stdout.split()[0]) >= 4  # it went on
    equal(dict(np.load(tmp_path / "result.npz")), expected)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_run_in_two_parts_is_the_run_in_one(tmp_path: Path, compiled: bool) -> None:
    _, expected = train(None, compile=compiled)
    train(tmp_path, num_epochs=5, compile=compiled)
    run, result = train(tmp_path, compile=compiled)
    equal(result, expected)
    again, result = train(tmp_path, compile=compiled)
    equal(result, expected)
    assert again.epoch == run.epoch and again.best_epoch == run.best_epoch
    for name, value in again.params.items():
        assert (value == run.params[name]).all()


def test_an_interrupt_leaves_the_last_checkpoint(tmp_path: Path) -> None:
    model, guide = density()

    def interrupt(run: Run) -> None:
        if run.epoch == 3:
            raise KeyboardInterrupt

    options = {"loss": NLL(), "num_epochs": 5, "checkpoint": tmp_path, "progress": False}
    data = np.arange(5.0)
    with pytest.raises(KeyboardInterrupt):
        fit(model, guide, data, callbacks=[interrupt], **options)
    seen: list[int] = []
    fit(model, guide, data, callbacks=[lambda run: seen.append(run.epoch)], **options)
    assert seen == [3, 4, 5]


def test_checkpoints_are_written_as_often_as_asked_and_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pyro_dgm.training import resuming

    epochs: list[int] = []
    original = resuming.save
    monkeypatch.setattr(
        resuming,
        "save",
        lambda folder, tree, meta: (epochs.append(meta["epoch"]), original(folder, tree, meta)),
    )
    model, guide = density()
    fit(
        model,
        guide,
        np.arange(5.0),
        loss=NLL(),
        num_epochs=7,
        checkpoint=tmp_path,
        checkpoint_every=3,
        progress=False,
    )
    assert epochs == [3, 6, 7]


def test_a_run_that_a_callback_stopped_stays_stopped(tmp_path: Path) -> None:
    model, guide = density()
    options = {"loss": NLL(), "num_epochs": 6, "checkpoint": tmp_path, "progress": False}
    stop = [lambda run: run.epoch == 2]
    assert fit(model, guide, np.arange(5.0), callbacks=stop, **options).epoch == 2
    assert fit(model, guide, np.arange(5.0), callbacks=stop, **options).epoch == 2
    assert fit(model, guide, np.arange(5.0), **options).epoch == 6
