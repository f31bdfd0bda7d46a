"""Whatever happens to a checkpoint, no wrong number is read, and the one before it is found."""

import os
import subprocess
import sys
import textwrap
import warnings

import numpy as np
import pytest

from dgm_core.training import checkpoint
from dgm_core.training.checkpoint import CheckpointError
from tests.core import damage

MANY = int(os.environ.get("DAMAGED", "600"))  # 2,000 were tried


def arrays(epoch):
    rng = np.random.default_rng(epoch)
    return {
        "weight": rng.normal(size=(8, 5)).astype(np.float32),
        "other": rng.normal(size=(8, 5)).astype(np.float32),
        "step": np.array(epoch),
        "names": np.array(["a", "bc"]),
        "empty": np.zeros((0, 3)),
        "rate": 0.1 * epoch,
    }


def epoch_of(path):
    """The epoch that is read, after a look at every number of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found, meta = checkpoint.load(path)
    expected = arrays(meta["epoch"])
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert np.asarray(found[name]).dtype == np.asarray(value).dtype
        np.testing.assert_array_equal(found[name], value)
    return meta["epoch"]


@pytest.mark.parametrize(
    "number", [96, pytest.param(MANY, marks=pytest.mark.slow)], ids=["some", "many"]
)
def test_a_damaged_file_is_never_believed_and_never_the_last_one(tmp_path, monkeypatch, number):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # quicker
    path = tmp_path / "last.npz"
    for epoch in (1, 2):
        checkpoint.save(path, arrays(epoch), {"epoch": epoch})
    contents, before = path.read_bytes(), checkpoint.previous(path).read_bytes()
    kinds = (*damage.ANY, *damage.OF_ARCHIVES)
    for index in range(number):
        rng = np.random.default_rng([index, number])
        path.write_bytes(kinds[index % len(kinds)](rng, contents))
        checkpoint.previous(path).write_bytes(before)
        read = epoch_of(path)
        assert read in (1, 2)
        checkpoint.save(path, arrays(3), {"epoch": 3})  # keeps what is good, not what came last
        assert epoch_of(path) == 3
        path.unlink()
        assert epoch_of(path) == read


@pytest.mark.parametrize("number", [40, pytest.param(500, marks=pytest.mark.slow)])
def test_two_damaged_files_are_an_error_in_words(tmp_path, number):
    path = tmp_path / "last.npz"
    checkpoint.save(path, arrays(1), {"epoch": 1})
    contents = path.read_bytes()
    refused = 0
    for index in range(number):
        rng = np.random.default_rng([index, 1])
        kinds = rng.choice(len(damage.ANY), 2)
        for file, kind in zip((path, checkpoint.previous(path)), kinds, strict=True):
            file.write_bytes(damage.ANY[kind](rng, contents))
        message = refusal(path)
        refused += bool(message)
        assert "last.npz.previous: " in message or epoch_of(path) == 1  # nothing of it was hit
    assert refused > number / 2


def refusal(path):
    """What `load` says about files that it cannot read; nothing where it can."""
    try:
        epoch_of(path)
    except CheckpointError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("kind", ["folder", "pipe", "loop", "device", "nothing", "dangling"])
def test_what_is_no_file_falls_back(tmp_path, kind):
    path = tmp_path / "last.npz"
    for epoch in (1, 2):
        checkpoint.save(path, arrays(epoch), {"epoch": epoch})
    path.unlink()
    match kind:
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "loop":
            path.symlink_to(path)
        case "device":
            path.symlink_to("/dev/zero")
        case "dangling":
            path.symlink_to(tmp_path / "missing")
    assert epoch_of(path) == 1


def test_what_is_no_file_is_not_replaced(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    for name in (path, tmp_path):
        with pytest.raises(checkpoint.CheckpointError, match="is not a file"):
            checkpoint.save(name, arrays(1), {})
    assert path.is_fifo() and list(tmp_path.iterdir()) == [path]
    for name in (None, 3, "", "a\0b", b"bytes"):
        with pytest.raises(ValueError, match=r"^path must be the path of a file, got"):
            checkpoint.save(name, arrays(1), {})


def test_a_link_to_a_checkpoint_elsewhere_is_read_and_replaced(tmp_path):
    elsewhere, path = tmp_path / "elsewhere.npz", tmp_path / "run" / "last.npz"
    checkpoint.save(elsewhere, arrays(1), {"epoch": 1})
    path.parent.mkdir()
    path.symlink_to(elsewhere)
    assert epoch_of(path) == 1
    checkpoint.save(path, arrays(2), {"epoch": 2})
    assert epoch_of(path) == 2
    assert epoch_of(checkpoint.previous(path)) == 1
    assert epoch_of(elsewhere) == 1
    assert not path.is_symlink()


def test_saving_where_both_names_are_one_file(tmp_path):
    """What a process leaves that was killed after it had kept the predecessor."""
    path = tmp_path / "last.npz"
    checkpoint.save(path, arrays(1), {"epoch": 1})
    os.link(path, checkpoint.previous(path))
    checkpoint.save(path, arrays(2), {"epoch": 2})
    assert epoch_of(path) == 2
    assert epoch_of(checkpoint.previous(path)) == 1
    assert sorted(os.listdir(tmp_path)) == ["last.npz", "last.npz.previous"]


def test_leftovers_are_removed_when_they_are_old(tmp_path, monkeypatch):
    path = tmp_path / "last.npz"
    left = [tmp_path / ".last.npz.0123.tmp", tmp_path / ".other.npz.0123.tmp"]
    for file in left:
        file.touch()
    checkpoint.save(path, arrays(1), {"epoch": 1})
    assert all(file.exists() for file in left)  # perhaps somebody is writing there
    monkeypatch.setattr("dgm_core.files._ABANDONED", -1.0)
    checkpoint.save(path, arrays(2), {"epoch": 2})
    assert [file.exists() for file in left] == [False, True]


DYING = """
import os, sys, warnings
from pathlib import Path
import numpy as np
from dgm_core.training import checkpoint
from tests.core.test_checkpoint_damage import arrays, epoch_of

CALLS = ("open", "write", "fsync", "link", "replace", "unlink", "close", "mkdir", "scandir")

os.fsync = lambda descriptor: None  # the disk is not what fails here

def dying(at):
    '''The step of the operating system before which this process is killed.'''
    left = [at]
    def counted(function):
        def call(*args, **kwargs):
            left[0] -= 1
            if left[0] == 0:
                os._exit(9)
            return function(*args, **kwargs)
        return call
    for name in CALLS:
        setattr(os, name, counted(getattr(os, name)))
    fdopen = os.fdopen
    def files(*args, **kwargs):
        file = fdopen(*args, **{"buffering": 0, **kwargs})  # every write reaches the system
        class File:
            write = staticmethod(counted(file.write))
            def __getattr__(self, name): return getattr(file, name)
            def __enter__(self): return self
            def __exit__(self, *error): file.close()
        return File()
    os.fdopen = files

folder, last = Path(sys.argv[1]), sys.argv[2]
killed, at, readable = True, 0, {}
while killed:
    at += 1
    path = folder / f"{at}" / "last.npz"
    for epoch in {"first": (), "second": (1,), "third": (1, 2), "damaged": (1, 2)}[last]:
        checkpoint.save(path, arrays(epoch), {"epoch": epoch})
    path.parent.mkdir(exist_ok=True)
    expected = {"first": None, "second": 1, "third": 2, "damaged": 1}[last]
    if last == "damaged":
        path.write_bytes(path.read_bytes()[:-50])
    child = os.fork()
    if child == 0:
        if sys.argv[3]:
            def unsupported(*args): raise OSError(1, "Operation not permitted")
            os.link = unsupported
        dying(at)
        checkpoint.save(path, arrays(3), {"epoch": 3})
        os._exit(0)
    killed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    if checkpoint.exists(path) or expected is not None:
        found = epoch_of(path)
        assert found in (3, expected), (at, found)
        readable[found] = readable.get(found, 0) + 1
        checkpoint.previous(path).unlink(missing_ok=True) if last != "damaged" else None
    if not killed:
        assert found == 3
    checkpoint.save(path, arrays(4), {"epoch": 4})
    assert epoch_of(path) == 4
    path.write_bytes(b"")
    if expected is not None:
        assert epoch_of(path) in (3, expected)
print(at, readable)
"""


SLOW = [("first", True), ("second", False), ("third", False), ("damaged", False)]


@pytest.mark.parametrize(
    ("state", "links"),
    [("first", False), ("second", True), ("third", True), ("damaged", True)]
    + [pytest.param(*case, marks=pytest.mark.slow) for case in SLOW],
)
def test_killed_before_every_step_of_a_save(tmp_path, state, links):
    """The process dies before each call that reaches the operating system, one after another."""
    command = [sys.executable, "-c", DYING, str(tmp_path), state, "" if links else "without"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[0]) > 20


WRITING = textwrap.dedent(
    """
    import sys
    from dgm_core.training import checkpoint
    from tests.core.test_checkpoint_damage import arrays
    number, total = int(sys.argv[2]), int(sys.argv[3])
    for epoch in range(number, total, 2):
        checkpoint.save(sys.argv[1], arrays(epoch), {"epoch": epoch})
    """
)


@pytest.mark.parametrize("total", [120, pytest.param(1000, marks=pytest.mark.slow)])
def test_two_processes_write_one_file(tmp_path, total):
    """Every read in between finds one whole save; links put in the way stay as they are."""
    path, target = tmp_path / "run" / "last.npz", tmp_path / "target"
    path.parent.mkdir()
    target.write_text("untouched")
    checkpoint.save(path, arrays(0), {"epoch": 0})
    for name in ("last.npz.tmp", "last.npz.link", ".last.npz.tmp", "last.npz.previous"):
        (path.parent / name).symlink_to(target)
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITING, str(path), str(number), str(total)])
        for number in (1, 2)
    ]
    loads = 0
    while any(writer.poll() is None for writer in writers):
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # not even the predecessor is needed
            _, meta = checkpoint.load(path)
        loads += 1
        assert meta["epoch"] in range(total)
        epoch_of(path)
    assert [writer.wait() for writer in writers] == [0, 0]
    assert loads > 20
    assert target.read_text() == "untouched"
    assert epoch_of(path) >= total - 2
    assert epoch_of(checkpoint.previous(path)) > 0
    names = {"last.npz", "last.npz.previous", "last.npz.tmp", "last.npz.link", ".last.npz.tmp"}
    assert set(os.listdir(path.parent)) == names
