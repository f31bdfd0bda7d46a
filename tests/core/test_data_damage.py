"""Damaged and planted data files: refused in words, never half read, never run."""

import contextlib
import gzip
import os
import pickle
import pickletools
import warnings
import zipfile

import h5py
import numpy as np
import pandas as pd
import pytest
from scipy.io import savemat

from dgm_core import data
from dgm_core.data import sequences
from dgm_core.data.files import DataError
from tests.core import damage
from tests.core.published import idx, write_mnist

pytestmark = pytest.mark.usefixtures("cache")


def mnist(folder, rng):
    write_mnist(folder / "mnist", rng, compress=bool(rng.integers(2)))


def omniglot(folder, rng):
    (folder / "omniglot").mkdir()
    drawings = rng.integers(256, size=(20, 28, 28)).astype(np.uint8)
    path = folder / "omniglot" / "omniglot28.npz"
    np.savez(path, images=drawings, character=np.arange(20, dtype=np.int16))


def jsb_chorales(folder, rng):
    (folder / "polyphonic").mkdir()
    rolls = {}
    for key, lengths in {"traindata": [5, 9, 7], "validdata": [4], "testdata": [6, 2]}.items():
        rolls[key] = np.empty((1, len(lengths)), object)
        for column, length in enumerate(lengths):
            rolls[key][0, column] = rng.integers(2, size=(length, 88)).astype(np.uint8)
    path = folder / "polyphonic" / sequences._FILES["jsb_chorales"][0]
    savemat(path, rolls, do_compression=bool(rng.integers(2)))


def power(folder, rng):
    (folder / "power").mkdir()
    np.save(folder / "power" / "data.npy", rng.normal(5, 3, size=(50, 8)))


def miniboone(folder, rng):
    (folder / "miniboone").mkdir()
    np.save(folder / "miniboone" / "data.npy", rng.normal(3, 2, size=(50, 5)))


def gas(folder, rng):
    (folder / "gas").mkdir()
    names = ["Time", "Meth", "Eth", "a", "b", "c", "d"]
    table = pd.DataFrame(rng.normal(2, 3, size=(60, 7)), columns=names)
    protocol = int(rng.choice([2, 4, 5]))
    table.to_pickle(folder / "gas" / "ethylene_CO.pickle", protocol=protocol)


def hepmass(folder, rng):
    (folder / "hepmass").mkdir()
    for part, extra in (("train", 0), ("test", 1)):
        table = np.column_stack([np.arange(60) % 2, rng.normal(1, 2, size=(60, 4 + extra))])
        pd.DataFrame(table).to_csv(folder / "hepmass" / f"1000_{part}.csv", index=False)


def bsds300(folder, rng):
    (folder / "BSDS300").mkdir()
    with h5py.File(folder / "BSDS300" / "BSDS300.hdf5", "w") as file:
        for part, size in (("train", 12), ("validation", 4), ("test", 6)):
            file[part] = rng.normal(size=(size, 63))


def wine(folder, rng):
    (folder / "uci").mkdir()
    table = rng.normal(3, 2, size=(50, 4))
    text = "".join(",".join(map(str, row)) + "\n" for row in table).encode()
    if rng.integers(2):
        (folder / "uci" / "wine.csv.gz").write_bytes(gzip.compress(text))
    else:
        (folder / "uci" / "wine.csv").write_bytes(text)


SETS = (mnist, omniglot, jsb_chorales, power, miniboone, gas, hepmass, bsds300, wine)
OPTIONS = {"mnist": {"num_validation": 4}, "omniglot": {"num_validation": 3, "num_test": 5}}


def spoil_text(rng, contents):
    """A number becomes a word, NaN, infinity or far too large; a row or its end is lost."""
    lines = contents.decode("latin-1").split("\n")
    row = int(rng.integers(len(lines)))
    cells = lines[row].split(",")
    column = int(rng.integers(len(cells)))
    words = ["nan", "inf", "1e300", "", "word", "-", "1;2", "1e999", "0x10", "'", '"', "1,2"]
    cells[column] = words[rng.integers(len(words))]
    lines[row] = ",".join(cells)
    return "\n".join(lines).encode("latin-1")


def load(name):
    """The set, after a look at every number of it; None where it is refused."""
    with warnings.catch_warnings(), contextlib.suppress(DataError):
        warnings.simplefilter("ignore")  # of the libraries that read the formats
        loaded = data.load(name, **OPTIONS.get(name, {}))
        look_at(name, loaded)
        return loaded
    return None


def look_at(name, loaded):
    """A look at every number of a set."""
    parts = (loaded.train, loaded.validation, loaded.test)
    for part in parts:
        assert part.dtype == np.float32
        assert part.ndim == (3 if name == "jsb_chorales" else 2)
        assert part.size and part.shape[1:] == (
            loaded.test.shape[1:] if part.ndim == 2 else part.shape[1:]
        )
        assert np.isfinite(part).all()
    for part in loaded.labels.values() if loaded.labels else ():
        assert part.min() >= 0


@pytest.mark.parametrize("number", [30, pytest.param(300, marks=pytest.mark.slow)])
@pytest.mark.parametrize("write", SETS, ids=lambda write: write.__name__)
def test_a_damaged_file_is_refused_or_whole(tmp_path, monkeypatch, write, number):
    name, refused = write.__name__, 0
    for index in range(number):
        rng = np.random.default_rng([index, SETS.index(write)])
        folder = tmp_path / str(index)
        folder.mkdir()
        monkeypatch.setenv("DGM_DATA_DIR", str(folder))
        write(folder, rng)
        if index == 0:
            assert load(name) is not None
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        path = files[rng.integers(len(files))]
        kinds = damage.ANY
        if zipfile.is_zipfile(path):
            kinds = (*kinds, *damage.OF_ARCHIVES)
        if name in ("wine", "hepmass"):
            kinds = (*kinds, spoil_text, spoil_text, spoil_text)
        kind = kinds[(index + rng.integers(2)) % len(kinds)]
        contents = path.read_bytes()
        packed = kind is spoil_text and path.suffix == ".gz"
        damaged = kind(rng, gzip.decompress(contents) if packed else contents)
        path.write_bytes(gzip.compress(damaged) if packed else damaged)
        refused += load(name) is None
    assert refused > number / 5


def test_a_text_that_broke_off_is_refused_wherever(disk):
    """Cut at every byte of the last three rows, a number may be shorter, a row, or only its end."""
    for write, file in ((hepmass, "hepmass/1000_train.csv"), (hepmass, "hepmass/1000_test.csv")):
        folder = disk / file.replace("/", "-")
        folder.mkdir()
        write(folder, np.random.default_rng(0))
        path = folder / file
        contents = path.read_bytes()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DGM_DATA_DIR", str(folder))
            assert load("hepmass") is not None
            for size in range(len(contents) - 150, len(contents)):
                path.write_bytes(contents[:size])
                loaded = load("hepmass")
                assert (loaded is not None) == contents[:size].endswith(b"\n")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
@pytest.mark.parametrize("write", [power, miniboone, gas, bsds300, wine])
def test_numbers_that_are_none_are_refused(disk, write, value):
    write(disk, np.random.default_rng(1))
    (path,) = (path for path in disk.rglob("*") if path.is_file())
    if write in (power, miniboone):
        table = np.load(path)
        table[3, 0] = value
        np.save(path, table)
    elif write is gas:
        frame = pd.read_pickle(path)
        frame.loc[3, "b"] = value
        frame.to_pickle(path)
    elif write is bsds300:
        with h5py.File(path, "r+") as file:
            file["test"][2, 5] = value
    else:
        opened = gzip.open if path.suffix == ".gz" else open
        with opened(path, "ab") as file:
            file.write(f"1,2,3,{value}\n".encode())
    with pytest.raises(DataError, match=r"missing, NaN or infinite"):
        data.load(write.__name__)


class Planted:
    """Unpickling this touches a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def by_hand(path):
    """The call of another function, through names that a table has too."""
    return b"cbuiltins\ngetattr\n(cos\nmkdir\nS'__call__'\ntR(S'" + str(path).encode() + b"'\ntR."


@pytest.mark.parametrize("where", ["alone", "in the table", "as an object", "by hand", "pandas"])
def test_nothing_in_a_pickle_is_run(disk, tmp_path, where):
    planted = tmp_path / "planted"
    gas(disk, np.random.default_rng(0))
    path = disk / "gas" / "ethylene_CO.pickle"
    frame = pd.read_pickle(path)
    if where == "in the table":
        frame["a"] = frame["a"].astype(object)
        frame.loc[0, "a"] = Planted(planted)
    contents = {
        "alone": lambda: pickle.dumps(Planted(planted)),
        "in the table": lambda: pickle.dumps(frame),
        "as an object": lambda: pickle.dumps([frame, Planted(planted)]),
        "by hand": lambda: by_hand(planted),
        "pandas": lambda: (
            b"cpandas.compat.pickle_compat\nloads\n(C"
            + bytes([len(inner := pickle.dumps(Planted(planted), protocol=2))])
            + inner
            + b"tR."
        ),
    }[where]()
    assert b"mkdir" in contents
    assert [*pickletools.genops(contents)]  # it is one
    path.write_bytes(contents)
    with pytest.raises(DataError, match="which no table has"):
        data.load("gas")
    assert not planted.exists()


@pytest.mark.parametrize("way", ["external storage", "external link", "soft link", "virtual"])
def test_an_hdf5_file_does_not_hand_out_other_files(disk, tmp_path, way):
    bsds300(disk, np.random.default_rng(0))
    path, secret = disk / "BSDS300" / "BSDS300.hdf5", tmp_path / "secret"
    secret.write_bytes(b"12345678" * 63 * 6)
    with h5py.File(tmp_path / "other.hdf5", "w") as other:
        other["test"] = np.ones((6, 63))
    with h5py.File(path, "r+") as file:
        del file["test"]
        if way == "external storage":
            size = (6, 63)
            file.create_dataset("test", size, float, external=[(str(secret), 0, 8 * 6 * 63)])
        elif way == "external link":
            file["test"] = h5py.ExternalLink(str(tmp_path / "other.hdf5"), "/test")
        elif way == "soft link":
            file["test"] = h5py.SoftLink("/train")
        else:
            layout = h5py.VirtualLayout((6, 63), float)
            layout[:] = h5py.VirtualSource(str(tmp_path / "other.hdf5"), "test", (6, 63))
            file.create_virtual_dataset("test", layout)
    with pytest.raises(DataError, match=r"'test' (is missing or a link|does not lie in this file)"):
        data.load("bsds300")


@pytest.mark.parametrize("kind", ["huge", "text", "group", "one axis", "empty", "odd widths"])
def test_an_hdf5_file_without_tables(disk, kind):
    bsds300(disk, np.random.default_rng(0))
    with h5py.File(disk / "BSDS300" / "BSDS300.hdf5", "r+") as file:
        del file["test"]
        if kind == "huge":
            file.create_dataset("test", (10**12, 63), float, chunks=(10, 63), compression="gzip")
        elif kind == "group":
            file.create_group("test")
        else:
            values = {"text": np.full((3, 63), b"a"), "one axis": np.ones(63)}
            values |= {"empty": np.ones((0, 63)), "odd widths": np.ones((3, 62))}
            file["test"] = values[kind]
    with pytest.raises(DataError, match=r"BSDS300\.hdf5 is damaged"):
        data.load("bsds300")


@pytest.mark.parametrize("contents", [[{"an": "object"}], "npz", 10**12, "text", 3.0, [1.0], []])
def test_an_npy_file_without_a_table(disk, contents):
    miniboone(disk, np.random.default_rng(0))
    path = disk / "miniboone" / "data.npy"
    with open(path, "wb") as file:
        if contents == "npz":
            np.savez(file, np.ones((50, 5)))
        elif contents == 10**12:
            file.write(damage.npy_header("<f8", (10**12, 5)) + bytes(800))
        else:
            np.save(file, np.array(contents), allow_pickle=True)
    with pytest.raises(DataError, match=r"data\.npy is damaged"):
        data.load("miniboone")


def test_a_compressed_file_that_unpacks_to_too_much(disk, monkeypatch):
    monkeypatch.setattr("dgm_core.data.reading.MOST", 10**6)
    wine(disk, np.random.default_rng(0))
    (disk / "uci" / "wine.csv.gz").write_bytes(gzip.compress(b"1,2,3,4\n" * 10**6))
    with pytest.raises(DataError, match="unpacks to more than any data set has"):
        data.load("wine")
    omniglot(disk, np.random.default_rng(0))
    path = disk / "omniglot" / "omniglot28.npz"
    np.savez_compressed(path, images=np.zeros((2000, 28, 28), np.uint8), character=np.arange(2000))
    with pytest.raises(DataError, match="unpacks to more than any data set has"):
        data.load("omniglot", num_validation=1, num_test=1)


def test_images_and_labels_that_do_not_belong_together(disk):
    arrays = write_mnist(disk / "mnist", np.random.default_rng(0), compress=False)
    path = disk / "mnist" / "train-labels-idx1-ubyte"
    labels = arrays["train-labels-idx1-ubyte.gz"]
    for wrong in (labels[:-1], labels[:, None], labels + 10, np.zeros((12, 28, 28))):
        path.write_bytes(idx(wrong))
        with pytest.raises(DataError, match=r"train-labels-idx1-ubyte is damaged"):
            data.load("mnist", num_validation=4)


def test_a_set_that_is_too_small_for_its_splits_is_not_whole(disk):
    mnist(disk, np.random.default_rng(0))
    with pytest.raises(DataError, match=r"'mnist' are not whole.*12 data, held out \(10000,\)"):
        data.load("mnist")
