"""Checkpoints: equal contents come back, and no fault loses what was saved before."""

import errno
import os
import signal
import subprocess
import sys
import textwrap
import warnings

import numpy as np
import pytest
import torch

from dgm_core.training import checkpoint
from dgm_core.training.checkpoint import CheckpointError

ARRAYS = {
    "encoder$$$layers.0.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "half": np.array([1.5, -2.0], np.float16),
    "step": np.array(7, np.int64),
    "mask": np.array([True, False]),
    "key": np.array([3, 2**32 - 1], np.uint32),
    "complex": np.array([1 + 2j]),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "empty": np.zeros((0, 3)),
    "names": np.array(["a", "bc"]),
}


def save_and_load(path, arrays, meta=None):
    checkpoint.save(path, arrays, meta or {})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return checkpoint.load(path)


def test_round_trip(tmp_path):
    meta = {
        "epoch": 3,
        "loss": "ELBO()",
        "history": [{"loss": float("nan")}],
        "best": float("inf"),
        "count": np.int64(5),
    }
    arrays, loaded = save_and_load(tmp_path / "deep" / "last.npz", ARRAYS, meta)
    assert list(arrays) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        assert arrays[name].shape == array.shape
        np.testing.assert_array_equal(arrays[name], array)
    assert loaded["epoch"] == 3
    assert loaded["best"] == float("inf")
    assert loaded["count"] == 5
    assert np.isnan(loaded["history"][0]["loss"])
    assert os.listdir(tmp_path / "deep") == ["last.npz"]


def test_the_file_holds_no_pickle(tmp_path):
    checkpoint.save(tmp_path / "last.npz", ARRAYS, {})
    with np.load(tmp_path / "last.npz", allow_pickle=False) as archive:
        assert len([archive[name] for name in archive.files]) == len(ARRAYS) + 2
    with pytest.raises(ValueError, match="'bad' has dtype object"):
        checkpoint.save(tmp_path / "last.npz", {"bad": np.array([None, {}])}, {})
    assert checkpoint.load(tmp_path / "last.npz")[0]["step"] == 7


def test_the_predecessor_is_kept(tmp_path):
    path = tmp_path / "last.npz"
    for epoch in range(3):
        checkpoint.save(path, {"epoch": np.array(epoch)}, {})
    assert checkpoint.load(path)[0]["epoch"] == 2
    assert checkpoint.load(checkpoint.previous(path))[0]["epoch"] == 1
    assert sorted(os.listdir(tmp_path)) == ["last.npz", "last.npz.previous"]


@pytest.mark.parametrize("keep", [0, 1, 100, 0.5, -1])
def test_a_truncated_file_falls_back(tmp_path, keep):
    path = tmp_path / "last.npz"
    for epoch in range(2):
        checkpoint.save(path, {"epoch": np.array(epoch), "weight": np.ones(1000)}, {})
    contents = path.read_bytes()
    path.write_bytes(contents[: int(keep * len(contents)) if isinstance(keep, float) else keep])
    with pytest.warns(UserWarning, match="Falling back to the checkpoint saved before"):
        arrays, _ = checkpoint.load(path)
    assert arrays["epoch"] == 0

    checkpoint.save(
        path, {"epoch": np.array(2)}, {}
    )  # the damaged file must not push out the good one
    assert checkpoint.load(path)[0]["epoch"] == 2
    assert checkpoint.load(checkpoint.previous(path))[0]["epoch"] == 0


def test_a_flipped_bit_is_noticed(tmp_path):
    path = tmp_path / "last.npz"
    checkpoint.save(path, {"weight": np.zeros(1000)}, {"epoch": 1})
    checkpoint.save(path, {"weight": np.ones(1000)}, {"epoch": 2})
    rng = np.random.default_rng(0)
    contents = path.read_bytes()
    for position in rng.integers(len(contents), size=40):
        damaged = bytearray(contents)
        damaged[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            arrays, meta = checkpoint.load(path)
        assert meta["epoch"] in (1, 2)  # never a wrong number: either epoch, entirely
        np.testing.assert_array_equal(arrays["weight"], np.full(1000, meta["epoch"] - 1.0))


def test_equal_shapes_with_other_contents_fail_the_checksum(tmp_path):
    path = tmp_path / "last.npz"
    checkpoint.save(path, {"weight": np.zeros(3)}, {})
    with np.load(path) as archive:
        members = dict(archive)
    members["arrays/weight"] = np.ones(3)
    np.savez(path, **members)
    with pytest.raises(CheckpointError, match="do not match the checksum"):
        checkpoint.load(path)


def test_a_missing_file_falls_back(tmp_path):
    path = tmp_path / "last.npz"
    assert not checkpoint.exists(path)
    with pytest.raises(CheckpointError, match="no such file"):
        checkpoint.load(path)
    checkpoint.save(path, {"epoch": np.array(0)}, {})
    os.rename(path, checkpoint.previous(path))
    assert checkpoint.exists(path)
    with pytest.warns(UserWarning, match="no such file"):
        assert checkpoint.load(path)[0]["epoch"] == 0


def test_both_broken(tmp_path):
    path = tmp_path / "last.npz"
    path.write_bytes(b"not a zip file")
    with checkpoint.previous(path).open("wb") as file:
        np.savez(file, other=np.ones(2))
    with pytest.raises(
        CheckpointError,
        match=r"last.npz: damaged.*last.npz.previous: not a checkpoint of this package",
    ):
        checkpoint.load(path)


@pytest.mark.parametrize("where", ["savez", "fsync"])
def test_full_disk(tmp_path, monkeypatch, where):
    path = tmp_path / "last.npz"
    checkpoint.save(path, {"epoch": np.array(0)}, {})
    checkpoint.save(path, {"epoch": np.array(1)}, {})

    def full(*args, **kwargs):
        if where == "savez":
            args[0].write(b"the first few bytes still fit")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np if where == "savez" else os, where, full)
    with pytest.raises(
        CheckpointError, match=r"No space left on device.*saved before it is untouched"
    ):
        checkpoint.save(path, {"epoch": np.array(2)}, {})
    monkeypatch.undo()
    assert sorted(os.listdir(tmp_path)) == ["last.npz", "last.npz.previous"]
    assert checkpoint.load(path)[0]["epoch"] == 1
    assert checkpoint.load(checkpoint.previous(path))[0]["epoch"] == 0


def test_a_file_that_the_system_does_not_let_grow(tmp_path):
    """A process whose files may have 100 kB is refused by the system in the middle of a write."""
    script = """
import resource, signal, sys
import numpy as np
from dgm_core.training import checkpoint
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
checkpoint.save(sys.argv[1], {"epoch": np.array(0)}, {})
try:
    checkpoint.save(sys.argv[1], {"epoch": np.array(1), "weight": np.ones(10**5)}, {})
except checkpoint.CheckpointError as error:
    print(error)
"""
    path = tmp_path / "last.npz"
    command = [sys.executable, "-c", script, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "could not be written" in done.stdout
    assert "File too large" in done.stdout
    assert checkpoint.load(path)[0]["epoch"] == 0
    assert os.listdir(tmp_path) == ["last.npz"]


def test_ctrl_c_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "last.npz"
    checkpoint.save(path, {"epoch": np.array(0)}, {})

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", interrupt)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(path, {"epoch": np.array(1)}, {})
    assert os.listdir(tmp_path) == ["last.npz"]
    assert checkpoint.load(path)[0]["epoch"] == 0


def test_no_hard_links(tmp_path, monkeypatch):
    def unsupported(*args):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", unsupported)
    for epoch in range(2):
        checkpoint.save(tmp_path / "last.npz", {"epoch": np.array(epoch)}, {})
    assert checkpoint.load(tmp_path / "last.npz")[0]["epoch"] == 1
    assert checkpoint.load(tmp_path / "last.npz.previous")[0]["epoch"] == 0


def test_a_killed_writer_loses_nothing(tmp_path):
    """SIGKILL at several moments of an endless sequence of saves: what is read is always one whole
    save.
    """
    script = textwrap.dedent(
        """
        import sys
        import numpy as np
        from dgm_core.training import checkpoint
        epoch = 0
        while True:
            epoch += 1
            weight = np.full(200_000, float(epoch))
            checkpoint.save(sys.argv[1], {"weight": weight}, {"epoch": epoch})
            print(epoch, flush=True)
        """
    )
    path = tmp_path / "last.npz"
    for lines in (1, 3, 6):
        process = subprocess.Popen(
            [sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True
        )
        for _ in range(lines):
            reported = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            arrays, meta = checkpoint.load(path)
        assert meta["epoch"] >= reported
        np.testing.assert_array_equal(arrays["weight"], np.full(200_000, float(meta["epoch"])))


TREES = {
    "optimizer": {
        "state": {0: {"step": 5}, 10: {"step": 6.5}},
        "param_groups": [{"betas": (0.9, 0.999), "amsgrad": None}],
    },
    "empty": {"a": {}, "b": [], "c": (), "d": [{}, [()]]},
    "odd names": {
        "ELBO/KL": 1,
        "50%": {"#3": "text", "[0]": True, "(1)": 2, "{}": 3, "%2F": 4},
        "é ü": 5,
    },
    "long list": {"values": list(range(12))},
    "leaf": 3.5,
    "list": [1, (2, {"a": None})],
}


@pytest.mark.parametrize("tree", TREES.values(), ids=TREES)
def test_flatten_is_inverted(tmp_path, tree):
    flat = checkpoint.flatten(tree)
    assert checkpoint.unflatten(flat) == tree
    loaded, _ = save_and_load(tmp_path / "tree.npz", flat)
    assert repr(checkpoint.unflatten(loaded)) == repr(tree)  # kinds and orders as well


def test_a_torch_optimizer_comes_back(tmp_path):
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.Adam([weight], lr=0.1)
    weight.sum().backward()
    optimizer.step()
    state = optimizer.state_dict()
    loaded = checkpoint.unflatten(
        save_and_load(tmp_path / "optim.npz", checkpoint.flatten(state))[0]
    )
    assert loaded["param_groups"] == state["param_groups"]
    assert list(loaded["state"]) == [0]
    for name, value in state["state"][0].items():
        np.testing.assert_array_equal(loaded["state"][0][name], value.numpy())


@pytest.mark.parametrize(
    ("tree", "match"),
    [
        ({"a": {"b": object()}}, "at 'a/b'"),
        ({"a": {(1, 2): 3}}, r"got \(1, 2\) at 'a'"),
        ({"a": {"": 3}}, "not empty"),
        ({"a": {True: 3}}, "got True"),
    ],
)
def test_flatten_refuses(tree, match):
    with pytest.raises(TypeError, match=match):
        checkpoint.flatten(tree)
