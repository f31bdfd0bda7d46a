"""Every data set is loaded from small files in its published format; downloads come from a server of our own."""

import functools
import gzip
import hashlib
import http.server
import io
import tarfile
import threading
import zipfile

import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.io import savemat

from dgm_core import data
from dgm_core.data import files, images, sequences, tabular
from dgm_core.data.files import DataError, Remote

NOWHERE = "http://127.0.0.1:9/"  # refuses every connection at once


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache, no DGM_DATA_DIR, no network."""
    monkeypatch.setattr(files, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr(images, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.delenv("DGM_DATA_DIR", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for module, name, value in [
        (images, "_MNIST_URLS", (NOWHERE,)),
        (images, "_FASHION_URLS", (NOWHERE,)),
        (images, "_OMNIGLOT_URL", NOWHERE),
        (sequences, "_URL", NOWHERE),
        (tabular, "_MAF_URL", NOWHERE + "data.tar.gz"),
        (tabular, "_UCI_URL", NOWHERE + "{}/data.csv.gz"),
    ]:
        monkeypatch.setattr(module, name, value)
    return tmp_path / "cache"


@pytest.fixture
def disk(tmp_path, monkeypatch):
    """The folder that DGM_DATA_DIR points to."""
    folder = tmp_path / "disk"
    folder.mkdir()
    monkeypatch.setenv("DGM_DATA_DIR", str(folder))
    return folder


@pytest.fixture
def server(tmp_path):
    """A folder and the address under which its files can be downloaded."""
    folder = tmp_path / "published"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder)) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{running.server_port}/"
        running.shutdown()


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.astype(np.uint8).tobytes()


def write_mnist(folder, rng, *, compress=True, num_train=12, num_test=5):
    folder.mkdir(parents=True)
    arrays = {
        "train-images-idx3-ubyte.gz": rng.integers(256, size=(num_train, 28, 28)),
        "train-labels-idx1-ubyte.gz": np.arange(num_train) % 10,
        "t10k-images-idx3-ubyte.gz": rng.integers(256, size=(num_test, 28, 28)),
        "t10k-labels-idx1-ubyte.gz": np.arange(num_test) % 10,
    }
    for name, array in arrays.items():
        contents = idx(array)
        path = folder / (name if compress else name.removesuffix(".gz"))
        path.write_bytes(gzip.compress(contents) if compress else contents)
    return arrays


# ---------------------------------------------------------------------------------------------------------- the sets


def test_digits_are_the_real_ones():
    digits = data.load("digits")
    assert [len(part) for part in (digits.train, digits.validation, digits.test)] == [1297, 200, 300]
    assert digits.train.dtype == np.float32
    assert (digits.image_shape, digits.x_dim, digits.levels, digits.num_classes) == ((1, 8, 8), 64, 17, 10)
    together = np.concatenate([digits.train, digits.validation, digits.test])
    assert set(np.unique(together * 16)) == set(range(17))
    assert together.sum() == pytest.approx(561_718 / 16)  # the sum of all grey levels
    assert digits.labels["test"].shape == (300,)


def test_splits_are_seeded():
    first, again, other = data.load("digits", seed=1), data.load("digits", seed=1), data.load("digits", seed=2)
    np.testing.assert_array_equal(first.train, again.train)
    np.testing.assert_array_equal(first.labels["train"], again.labels["train"])
    assert not np.array_equal(first.train, other.train)
    assert len(data.load("digits", num_validation=0, num_test=97).train) == 1700


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
@pytest.mark.parametrize("compress", [True, False])
def test_idx_files(disk, name, compress):
    arrays = write_mnist(disk / name, np.random.default_rng(0), compress=compress)
    loaded = data.load(name, num_validation=4)
    assert loaded.train.shape == (8, 784)
    assert loaded.validation.shape == (4, 784)
    assert loaded.image_shape == (1, 28, 28)
    np.testing.assert_array_equal(np.rint(loaded.test * 255), arrays["t10k-images-idx3-ubyte.gz"].reshape(5, 784))
    np.testing.assert_array_equal(loaded.labels["test"], np.arange(5))
    pixels = np.concatenate([loaded.train, loaded.validation])
    labels = np.concatenate([loaded.labels["train"], loaded.labels["validation"]])
    for row, label in zip(pixels, labels, strict=True):  # images and labels are shuffled together
        candidates = arrays["train-images-idx3-ubyte.gz"].reshape(12, 784)
        assert np.flatnonzero((np.rint(row * 255) == candidates).all(1)) % 10 == label


def test_omniglot_prepared(disk):
    rng = np.random.default_rng(0)
    (disk / "omniglot").mkdir()
    drawings = rng.integers(256, size=(20, 28, 28)).astype(np.uint8)
    np.savez(disk / "omniglot" / "omniglot28.npz", images=drawings, character=np.arange(20, dtype=np.int16))
    loaded = data.load("omniglot", num_validation=3, num_test=5)
    assert [len(part) for part in (loaded.train, loaded.validation, loaded.test)] == [12, 3, 5]
    np.testing.assert_array_equal(np.rint(loaded.test * 255), drawings.reshape(20, 784)[loaded.labels["test"]])


def test_omniglot_is_drawn_from_the_published_files(server, monkeypatch, cache):
    folder, url = server
    checksums = []
    for part, ink in (("background", 3), ("evaluation", 90)):
        page = np.full((105, 105), 255, np.uint8)
        page[:, ink : ink + 15] = 0  # a vertical stroke, four pixels wide at 28x28
        stream = io.BytesIO()
        Image.fromarray(page).convert("1").save(stream, "PNG")
        with zipfile.ZipFile(folder / f"images_{part}.zip", "w") as archive:
            for number in range(2):
                archive.writestr(f"images_{part}/Alphabet/character01/0001_{number}.png", stream.getvalue())
        checksums.append(sha256(folder / f"images_{part}.zip"))
    monkeypatch.setattr(images, "_OMNIGLOT_URL", url)
    monkeypatch.setitem(images._SHA256, "omniglot", tuple(checksums))
    loaded = data.load("omniglot", num_validation=1, num_test=1)
    pixels = np.concatenate([loaded.train, loaded.validation, loaded.test])
    labels = np.concatenate([loaded.labels[split] for split in ("train", "validation", "test")])
    np.testing.assert_allclose(pixels.sum(-1), 4 * 28, rtol=5e-3)
    assert pixels.reshape(-1, 28, 28)[labels == 0].sum((0, 1))[1] == pytest.approx(2 * 28)  # left, ink is 1
    assert sorted(labels) == [0, 0, 1, 1]
    assert (cache / "omniglot" / "omniglot28.npz").is_file()
    monkeypatch.setattr(images, "_OMNIGLOT_URL", NOWHERE)
    np.testing.assert_array_equal(data.load("omniglot", num_validation=1, num_test=1).train, loaded.train)


@pytest.mark.parametrize("name", ["jsb_chorales", "muse_data", "piano_midi"])
def test_piano_rolls(disk, name):
    rng = np.random.default_rng(0)
    (disk / "polyphonic").mkdir()
    rolls = {}
    for key, lengths in {"traindata": [5, 9, 7], "validdata": [4], "testdata": [6, 2]}.items():
        rolls[key] = np.empty((1, len(lengths)), object)
        for column, length in enumerate(lengths):
            rolls[key][0, column] = rng.integers(2, size=(length, 88)).astype(np.uint8)
    savemat(disk / "polyphonic" / sequences._FILES[name][0], rolls)
    loaded = data.load(name)
    assert loaded.train.shape == (3, 9, 88)
    assert loaded.validation.shape == (1, 4, 88)
    np.testing.assert_array_equal(loaded.lengths["train"], [5, 9, 7])
    np.testing.assert_array_equal(loaded.test[1, :2], rolls["testdata"][0, 1])
    assert loaded.test[1, 2:].sum() == 0
    assert loaded.levels == 2


def test_power(disk):
    rng = np.random.default_rng(0)
    (disk / "power").mkdir()
    raw = rng.normal(5, 3, size=(200, 8))
    np.save(disk / "power" / "data.npy", raw)
    loaded = data.load("power")
    assert [part.shape for part in (loaded.train, loaded.validation, loaded.test)] == [(162, 6), (18, 6), (20, 6)]
    np.testing.assert_allclose(np.concatenate([loaded.train, loaded.validation]).mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(np.concatenate([loaded.train, loaded.validation]).std(0), 1, atol=1e-5)
    # The last column gets no noise, so the published shuffle can be read off it.
    order = np.random.RandomState(42).permutation(200)
    mean, deviation = loaded.scaling
    np.testing.assert_allclose(loaded.test[:, 5] * deviation[5] + mean[5], raw[order[-20:], 7], rtol=1e-5)
    np.testing.assert_array_equal(data.load("power").train, loaded.train)


def test_gas(disk):
    rng = np.random.default_rng(0)
    (disk / "gas").mkdir()
    table = pd.DataFrame(rng.normal(2, 3, size=(300, 7)), columns=["Time", "Meth", "Eth", "a", "b", "c", "d"])
    table["c"] = table["a"] + 0.01 * table["b"]  # correlation above 0.98 with a, and the first of the two goes
    table.to_pickle(disk / "gas" / "ethylene_CO.pickle")
    loaded = data.load("gas")
    assert [part.shape for part in (loaded.train, loaded.validation, loaded.test)] == [(243, 3), (27, 3), (30, 3)]
    everything = np.concatenate([loaded.train, loaded.validation, loaded.test])
    np.testing.assert_allclose(everything.std(0, ddof=1), 1, rtol=1e-5)
    expected = ((table - table.mean()) / table.std())[["b", "c", "d"]]
    np.testing.assert_allclose(everything, expected, rtol=1e-4, atol=1e-6)


def test_hepmass(disk):
    rng = np.random.default_rng(0)
    (disk / "hepmass").mkdir()

    def table(num_rows, extra):
        label = np.arange(num_rows) % 2
        columns = rng.normal(1, 2, size=(num_rows, 4 + extra))
        columns[:, 1] = rng.integers(3, size=num_rows)  # repeated values
        return pd.DataFrame(np.column_stack([label, columns])), columns[label == 1]

    train, signal = table(200, 0)
    test, _ = table(60, 1)
    train.to_csv(disk / "hepmass" / "1000_train.csv", index=False)
    test.to_csv(disk / "hepmass" / "1000_test.csv", index=False)
    loaded = data.load("hepmass")
    assert [part.shape for part in (loaded.train, loaded.validation, loaded.test)] == [(90, 3), (10, 3), (30, 3)]
    expected = (signal - signal.mean(0)) / signal.std(0, ddof=1)
    np.testing.assert_allclose(loaded.train, expected[:90][:, [0, 2, 3]], rtol=1e-4, atol=1e-6)


def test_miniboone_and_bsds300(disk):
    rng = np.random.default_rng(0)
    for folder in ("miniboone", "BSDS300"):
        (disk / folder).mkdir()
    np.save(disk / "miniboone" / "data.npy", rng.normal(3, 2, size=(100, 5)))
    loaded = data.load("miniboone")
    assert [part.shape for part in (loaded.train, loaded.validation, loaded.test)] == [(81, 5), (9, 5), (10, 5)]
    with h5py.File(disk / "BSDS300" / "BSDS300.hdf5", "w") as file:
        for part, size in (("train", 6), ("validation", 2), ("test", 3)):
            file[part] = rng.normal(size=(size, 63))
    loaded = data.load("bsds300")
    assert [part.shape for part in (loaded.train, loaded.validation, loaded.test)] == [(6, 63), (2, 63), (3, 63)]
    assert loaded.train.dtype == np.float32


@pytest.mark.parametrize("name", ["elevators", "kin40k", "pol", "protein", "wine"])
def test_uci(disk, name):
    rng = np.random.default_rng(0)
    (disk / "uci").mkdir()
    table = rng.normal(3, 2, size=(50, 4))
    table[:, 1] = 7.0  # a constant column must not become NaN
    (disk / "uci" / f"{name}.csv.gz").write_bytes(gzip.compress("\n".join(",".join(map(str, row)) for row in table).encode()))
    loaded = data.load(name)
    assert [part.shape for part in (loaded.train, loaded.validation, loaded.test)] == [(40, 4), (5, 4), (5, 4)]
    np.testing.assert_allclose(loaded.train.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(loaded.train.std(0), [1, 0, 1, 1], atol=1e-6)
    mean, deviation = loaded.scaling
    everything = np.concatenate([loaded.train, loaded.validation, loaded.test]) * deviation + mean
    np.testing.assert_allclose(np.sort(everything[:, 3]), np.sort(table[:, 3]), rtol=1e-5)
    assert not np.array_equal(data.load(name, seed=1).train, loaded.train)


# ----------------------------------------------------------------------------------------------- where files come from


def test_a_missing_file_says_what_to_do(cache):
    with pytest.raises(DataError) as caught:
        data.load("mnist")
    message = str(caught.value)
    assert "mnist/train-images-idx3-ubyte.gz" in message
    assert f"{NOWHERE}train-images-idx3-ubyte.gz: no connection" in message
    assert str(cache / "mnist" / "train-images-idx3-ubyte.gz") in message
    assert "DGM_DATA_DIR" in message
    assert "\n" not in message


@pytest.mark.parametrize("name", ["fashion_mnist", "omniglot", "jsb_chorales", "power", "gas", "hepmass", "bsds300", "pol"])
def test_every_remote_set_says_so(name):
    with pytest.raises(DataError, match=r"is not on this machine .* published at http.* DGM_DATA_DIR"):
        data.load(name)


def test_a_wrong_data_dir(monkeypatch, tmp_path):
    monkeypatch.setenv("DGM_DATA_DIR", str(tmp_path / "typo"))
    with pytest.raises(DataError, match=r"typo, which is not a folder"):
        data.load("mnist")


@pytest.mark.parametrize("damage", [b"", b"\x1f\x8b not really gzip", bytes([0, 0, 8, 3, 0, 0, 0, 9]), idx(np.zeros(3))[:-1]])
def test_a_damaged_file_is_named(disk, damage):
    write_mnist(disk / "mnist", np.random.default_rng(0))
    (disk / "mnist" / "train-labels-idx1-ubyte.gz").write_bytes(damage)
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte\.gz is damaged"):
        data.load("mnist", num_validation=2)


def test_downloads_are_checked_and_cached(server, cache, monkeypatch):
    folder, url = server
    write_mnist(folder / "mnist", np.random.default_rng(0))
    checksums = tuple(sha256(folder / "mnist" / file) for file in images._IDX_FILES.values())
    monkeypatch.setattr(images, "_MNIST_URLS", (NOWHERE, url + "mnist/"))  # the second address serves
    monkeypatch.setitem(images._SHA256, "mnist", checksums)
    loaded = data.load("mnist", num_validation=2)
    assert loaded.train.shape == (10, 784)
    monkeypatch.setattr(images, "_MNIST_URLS", (NOWHERE,))
    np.testing.assert_array_equal(data.load("mnist", num_validation=2).train, loaded.train)

    monkeypatch.setitem(images._SHA256, "mnist", ("0" * 64, *checksums[1:]))
    monkeypatch.setattr(images, "_MNIST_URLS", (url + "mnist/",))
    with pytest.raises(DataError, match=r"(?i)hash"):
        data.load("mnist", num_validation=2)


def test_a_member_of_an_archive(server, cache, monkeypatch):
    folder, url = server
    np.save(folder / "data.npy", np.random.default_rng(0).normal(size=(100, 5)))
    with tarfile.open(folder / "data.tar.gz", "w:gz") as archive:
        archive.add(folder / "data.npy", "data/miniboone/data.npy")
    monkeypatch.setattr(tabular, "_MAF_URL", url + "data.tar.gz")
    monkeypatch.setattr(tabular, "_MAF_MD5", "md5:" + hashlib.md5((folder / "data.tar.gz").read_bytes()).hexdigest())
    assert data.load("miniboone").train.shape == (81, 5)
    assert (cache / "miniboone" / "data.npy").is_file()
    monkeypatch.setattr(tabular, "_MAF_URL", NOWHERE)
    assert data.load("miniboone").train.shape == (81, 5)


def test_the_disk_comes_before_the_cache(disk, cache):
    for folder, contents in ((disk, b"disk"), (cache, b"cache")):
        (folder / "set").mkdir(parents=True)
        (folder / "set" / "file.bin").write_bytes(contents)
    remote = Remote("set/file.bin", (NOWHERE,), hashlib.sha256(b"cache").hexdigest())
    assert files.locate(remote).read_bytes() == b"disk"
    (disk / "set" / "file.bin").unlink()
    assert files.locate(remote).read_bytes() == b"cache"


# -------------------------------------------------------------------------------------------------------------- names


def test_every_name_is_described():
    assert "digits" in data.names()
    for name in data.names():
        assert len(data.describe(name)) > 20


@pytest.mark.parametrize(
    ("use", "match"),
    [
        (lambda: data.load("minst"), "no data set 'minst'; there are digits, mnist"),
        (lambda: data.describe("minst"), "no data set 'minst'"),
        (lambda: data.load("digits", size=3), "takes num_test, num_validation, seed, got size"),
        (lambda: data.load("power", seed=3), "fixed splits and takes no options, got seed"),
        (lambda: data.load("digits", num_validation=1500), "must leave data to train on"),
        (lambda: data.load("digits", num_test=-1), "must leave data to train on"),
        (lambda: data.load("two_moons").num_classes, "no labels"),
        (lambda: data.two_moons(0), "num_samples must be at least 1, got 0"),
    ],
)
def test_bad_requests(use, match):
    with pytest.raises(ValueError, match=match):
        use()


# --------------------------------------------------------------------------------------------------------------- toys


@pytest.mark.parametrize("name", data.TOYS)
def test_toys_are_seeded_and_centred(name):
    x = data.TOYS[name](20_000, 3)
    assert x.shape == (20_000, 2)
    assert x.dtype == np.float32
    np.testing.assert_array_equal(x, data.TOYS[name](20_000, 3))
    assert not np.array_equal(x, data.TOYS[name](20_000, 4))
    assert np.abs(x).max() < 6
    np.testing.assert_allclose(x.mean(0), 0, atol=0.1)
    assert data.load(name).train.shape == (10_000, 2)


def test_toys_have_their_modes():
    eight = data.eight_gaussians(8_000)
    sectors = np.rint(np.arctan2(eight[:, 1], eight[:, 0]) / (np.pi / 4)).astype(int) % 8
    counts = np.bincount(sectors, minlength=8)
    assert counts.min() > 850
    np.testing.assert_allclose(np.linalg.norm(eight, axis=1).mean(), 4 / np.sqrt(2), atol=0.05)
    grid = np.rint(data.twenty_five_gaussians(10_000)).astype(int)
    _, counts = np.unique(grid, axis=0, return_counts=True)
    assert len(counts) == 25
    assert counts.min() > 300
    board = data.checkerboard(8_000)
    assert np.all((np.floor(board / 2).astype(int).sum(1)) % 2 == 0)
    assert np.abs(board).max() <= 4
