"""Where the files of data sets come from, from a server of our own; names; toys."""

import hashlib
import tarfile

import numpy as np
import pytest

from dgm_core import data
from dgm_core.data import files, images, tabular
from dgm_core.data.files import DataError, Remote
from tests.core.published import NOWHERE, idx, sha256, write_mnist

pytestmark = pytest.mark.usefixtures("cache")


# ------------------------------------------------------------
# where files come from


def test_a_missing_file_says_what_to_do(cache):
    with pytest.raises(DataError) as caught:
        data.load("mnist")
    message = str(caught.value)
    assert "mnist/train-images-idx3-ubyte.gz" in message
    assert f"{NOWHERE}train-images-idx3-ubyte.gz: no connection" in message
    assert str(cache / "mnist" / "train-images-idx3-ubyte.gz") in message
    assert "DGM_DATA_DIR" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "name",
    ["fashion_mnist", "omniglot", "jsb_chorales", "power", "gas", "hepmass", "bsds300", "pol"],
)
def test_every_remote_set_says_so(name):
    with pytest.raises(
        DataError, match=r"is not on this machine .* published at http.* DGM_DATA_DIR"
    ):
        data.load(name)


def test_a_wrong_data_dir(monkeypatch, tmp_path):
    monkeypatch.setenv("DGM_DATA_DIR", str(tmp_path / "typo"))
    with pytest.raises(DataError, match=r"typo, which is not a folder"):
        data.load("mnist")


@pytest.mark.parametrize(
    "damage",
    [b"", b"\x1f\x8b not really gzip", bytes([0, 0, 8, 3, 0, 0, 0, 9]), idx(np.zeros(3))[:-1]],
)
def test_a_damaged_file_is_named(disk, damage):
    write_mnist(disk / "mnist", np.random.default_rng(0))
    (disk / "mnist" / "train-labels-idx1-ubyte.gz").write_bytes(damage)
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte\.gz is damaged"):
        data.load("mnist", num_validation=2)


def test_downloads_are_checked_and_cached(server, cache, monkeypatch):
    folder, url = server
    write_mnist(folder / "mnist", np.random.default_rng(0))
    checksums = tuple(sha256(folder / "mnist" / file) for file in images._IDX_FILES.values())
    monkeypatch.setattr(
        images, "_MNIST_URLS", (NOWHERE, url + "mnist/")
    )  # the second address serves
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
    monkeypatch.setattr(
        tabular, "_MAF_MD5", "md5:" + hashlib.md5((folder / "data.tar.gz").read_bytes()).hexdigest()
    )
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


# ------------------------------------------------------------
# names


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


# ------------------------------------------------------------
# toys


@pytest.mark.parametrize("name", data.TOYS)
def test_toys_are_seeded_and_centered(name):
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
