"""Every data set is loaded from small files in its published format."""

import gzip
import io
import zipfile

import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.io import savemat

from dgm_core import data
from dgm_core.data import images, sequences
from tests.core.published import NOWHERE, sha256, write_mnist

pytestmark = pytest.mark.usefixtures("cache")


# ------------------------------------------------------------
# the sets


def test_digits_are_the_real_ones():
    digits = data.load("digits")
    assert [len(part) for part in (digits.train, digits.validation, digits.test)] == [
        1297,
        200,
        300,
    ]
    assert digits.train.dtype == np.float32
    assert (digits.image_shape, digits.x_dim, digits.levels, digits.num_classes) == (
        (1, 8, 8),
        64,
        17,
        10,
    )
    together = np.concatenate([digits.train, digits.validation, digits.test])
    assert set(np.unique(together * 16)) == set(range(17))
    assert together.sum() == pytest.approx(561_718 / 16)  # the sum of all gray levels
    assert digits.labels["test"].shape == (300,)


def test_splits_are_seeded():
    first, again, other = (
        data.load("digits", seed=1),
        data.load("digits", seed=1),
        data.load("digits", seed=2),
    )
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
    np.testing.assert_array_equal(
        np.rint(loaded.test * 255), arrays["t10k-images-idx3-ubyte.gz"].reshape(5, 784)
    )
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
    np.savez(
        disk / "omniglot" / "omniglot28.npz",
        images=drawings,
        character=np.arange(20, dtype=np.int16),
    )
    loaded = data.load("omniglot", num_validation=3, num_test=5)
    assert [len(part) for part in (loaded.train, loaded.validation, loaded.test)] == [12, 3, 5]
    np.testing.assert_array_equal(
        np.rint(loaded.test * 255), drawings.reshape(20, 784)[loaded.labels["test"]]
    )


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
                archive.writestr(
                    f"images_{part}/Alphabet/character01/0001_{number}.png", stream.getvalue()
                )
        checksums.append(sha256(folder / f"images_{part}.zip"))
    monkeypatch.setattr(images, "_OMNIGLOT_URL", url)
    monkeypatch.setitem(images._SHA256, "omniglot", tuple(checksums))
    loaded = data.load("omniglot", num_validation=1, num_test=1)
    pixels = np.concatenate([loaded.train, loaded.validation, loaded.test])
    labels = np.concatenate([loaded.labels[split] for split in ("train", "validation", "test")])
    np.testing.assert_allclose(pixels.sum(-1), 4 * 28, rtol=5e-3)
    assert pixels.reshape(-1, 28, 28)[labels == 0].sum((0, 1))[1] == pytest.approx(
        2 * 28
    )  # left, ink is 1
    assert sorted(labels) == [0, 0, 1, 1]
    assert (cache / "omniglot" / "omniglot28.npz").is_file()
    monkeypatch.setattr(images, "_OMNIGLOT_URL", NOWHERE)
    np.testing.assert_array_equal(
        data.load("omniglot", num_validation=1, num_test=1).train, loaded.train
    )


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
    assert [part.shape for part in (loaded.train, loaded.validation, loaded.test)] == [
        (162, 6),
        (18, 6),
        (20, 6),
    ]
    np.testing.assert_allclose(
        np.concatenate([loaded.train, loaded.validation]).mean(0), 0, atol=1e-5
    )
    np.testing.assert_allclose(
        np.concatenate([loaded.train, loaded.validation]).std(0), 1, atol=1e-5
    )
    # The last column gets no noise, so the published shuffle can be read off it.
    order = np.random.RandomState(42).permutation(200)
    mean, deviation = loaded.scaling
    np.testing.assert_allclose(
        loaded.test[:, 5] * deviation[5] + mean[5], raw[order[-20:], 7], rtol=1e-5
    )
    np.testing.assert_array_equal(data.load("power").train, loaded.train)


def test_gas(disk):
    rng = np.random.default_rng(0)
    (disk / "gas").mkdir()
    table = pd.DataFrame(
        rng.normal(2, 3, size=(300, 7)), columns=["Time", "Meth", "Eth", "a", "b", "c", "d"]
    )
    table["c"] = (
        table["a"] + 0.01 * table["b"]
    )  # correlation above 0.98 with a, and the first of the two goes
    table.to_pickle(disk / "gas" / "ethylene_CO.pickle")
    loaded = data.load("gas")
    assert [part.shape for part in (loaded.train, loaded.validation, loaded.test)] == [
        (243, 3),
        (27, 3),
        (30, 3),
    ]
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
    assert [part.shape for part in (loaded.train, loaded.validation, loaded.test)] == [
        (90, 3),
        (10, 3),
        (30, 3),
    ]
    expected = (signal - signal.mean(0)) / signal.std(0, ddof=1)
    np.testing.assert_allclose(loaded.train, expected[:90][:, [0, 2, 3]], rtol=1e-4, atol=1e-6)


def test_miniboone_and_bsds300(disk):
    rng = np.random.default_rng(0)
    for folder in ("miniboone", "BSDS300"):
        (disk / folder).mkdir()
    np.save(disk / "miniboone" / "data.npy", rng.normal(3, 2, size=(100, 5)))
    loaded = data.load("miniboone")
    assert [part.shape for part in (loaded.train, loaded.validation, loaded.test)] == [
        (81, 5),
        (9, 5),
        (10, 5),
    ]
    with h5py.File(disk / "BSDS300" / "BSDS300.hdf5", "w") as file:
        for part, size in (("train", 6), ("validation", 2), ("test", 3)):
            file[part] = rng.normal(size=(size, 63))
    loaded = data.load("bsds300")
    assert [part.shape for part in (loaded.train, loaded.validation, loaded.test)] == [
        (6, 63),
        (2, 63),
        (3, 63),
    ]
    assert loaded.train.dtype == np.float32


@pytest.mark.parametrize("name", ["elevators", "kin40k", "pol", "protein", "wine"])
def test_uci(disk, name):
    rng = np.random.default_rng(0)
    (disk / "uci").mkdir()
    table = rng.normal(3, 2, size=(50, 4))
    table[:, 1] = 7.0  # a constant column must not become NaN
    (disk / "uci" / f"{name}.csv.gz").write_bytes(
        gzip.compress("\n".join(",".join(map(str, row)) for row in table).encode())
    )
    loaded = data.load(name)
    assert [part.shape for part in (loaded.train, loaded.validation, loaded.test)] == [
        (40, 4),
        (5, 4),
        (5, 4),
    ]
    np.testing.assert_allclose(loaded.train.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(loaded.train.std(0), [1, 0, 1, 1], atol=1e-6)
    mean, deviation = loaded.scaling
    everything = np.concatenate([loaded.train, loaded.validation, loaded.test]) * deviation + mean
    np.testing.assert_allclose(np.sort(everything[:, 3]), np.sort(table[:, 3]), rtol=1e-5)
    assert not np.array_equal(data.load(name, seed=1).train, loaded.train)
