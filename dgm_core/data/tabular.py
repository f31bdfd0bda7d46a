"""Tables of real numbers: the five sets of the MAF paper and five regression sets of the UCI
repository.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dgm_core.data.dataset import SPLITS, Dataset, split_indices, standardize
from dgm_core.data.files import Remote, locate, reading
from dgm_core.data.reading import read_csv, read_frame, read_hdf5, read_lines, read_npy, table

_MAF_URL = "https://zenodo.org/record/1161203/files/data.tar.gz"
_MAF_MD5 = "md5:9b9c9b0375315ad270eba4ce80c093ab"  # what Zenodo publishes
_UCI_URL = "https://github.com/treforevans/uci_datasets/raw/master/uci_datasets/{}/data.csv.gz"
_UCI = {
    "elevators": "e39bc18a80ec3611e4fd76d0f86ee377e96ba21b568b9997576d538dafe56b7b",
    "kin40k": "9bee7f2a9f39aa61a015f239378368601fb3978c5bb9a96433e88a55d40883ba",
    "pol": "1c16126352954571e78f52d5a9d1b947a38655885d7cadd9407a4c9615fe4e04",
    "protein": "f709d0107c3ee90ab019b9e5d77fc2ae182158958cb70b1903236a51334fd01b",
    "wine": "e2ca3346651ddb43fbc6a1355e70e74b7ce68f93059e04405e9cb749c219eae2",
}


def power() -> Dataset:
    """Power consumption of a household, 6 columns, with the noise and the split of the MAF paper.

    Reference (all five): Papamakarios, Pavlakou & Murray (2017), arXiv:1705.07057; data
        doi:10.5281/zenodo.1161203.
    """
    path = _maf("power/data.npy")
    with reading(path):
        data = table(read_npy(path))
        rng = np.random.RandomState(42)  # the published protocol
        rng.shuffle(data)
        data = np.delete(data, (1, 3), axis=1)
        voltage, gap = 0.01 * rng.rand(len(data), 1), 0.001 * rng.rand(len(data), 1)
        noise = (gap, voltage, rng.rand(len(data), 3), np.zeros((len(data), 1)))
        return _standardized("power", _last_tenths(data + np.hstack(noise)))


def gas() -> Dataset:
    """Readings of 8 gas sensors. The published file is a pickle: nothing but a table is let in."""
    path = _maf("gas/ethylene_CO.pickle")
    with reading(path):
        frame = read_frame(path).drop(columns=["Meth", "Eth", "Time"])
        data = table(frame.to_numpy(float))
        while np.any(crowded := (np.corrcoef(data.T) > 0.98).sum(1) > 1):
            data = np.delete(data, np.flatnonzero(crowded)[0], axis=1)
        mean, deviation = data.mean(0), data.std(0, ddof=1)
        return _dataset("gas", _last_tenths((data - mean) / deviation), (mean, deviation))


def hepmass() -> Dataset:
    """Particle collisions, the signal class, 21 columns (those with repeated values are
    left out).
    """
    train_path, test_path = (_maf(f"hepmass/1000_{part}.csv") for part in ("train", "test"))
    with reading(test_path):
        test = _signal(read_csv(test_path)[:, :-1])  # this file has one column too many
    with reading(train_path):
        train = _signal(read_csv(train_path))
        mean, deviation = train.mean(0), train.std(0, ddof=1)
        train, test = (train - mean) / deviation, (test - mean) / deviation
        # As published: a column goes when its smallest value occurs more than five times.
        keep = (train == train.min(0)).sum(0) <= 5
        train, test = train[:, keep], test[:, keep]
        num_validation = len(train) // 10
        parts = [train[:-num_validation], train[-num_validation:], test]
        return _dataset("hepmass", parts, (mean[keep], deviation[keep]))


def miniboone() -> Dataset:
    """Neutrino events, 43 columns."""
    path = _maf("miniboone/data.npy")
    with reading(path):
        return _standardized("miniboone", _last_tenths(table(read_npy(path))))


def bsds300() -> Dataset:
    """Patches of natural images, 8x8 without the last pixel and without their mean: 63 columns."""
    path = _maf("BSDS300/BSDS300.hdf5")
    with reading(path):
        return _dataset("bsds300", read_hdf5(path, SPLITS), None)


def uci(name: str, seed: int) -> Dataset:
    """A regression set, the target in the last column; 80 / 10 / 10 % splits, standardized by the
    training split.

    References:
        UCI Machine Learning Repository, in the form of github.com/treforevans/uci_datasets.
    """
    path = locate(Remote(f"uci/{name}.csv.gz", (_UCI_URL.format(name),), _UCI[name]))
    with reading(path):
        data = table(np.loadtxt(read_lines(path), delimiter=",", ndmin=2))
        tenth = len(data) // 10
        parts = [data[part] for part in split_indices(len(data), (tenth, tenth), seed)]
        return _standardized(name, parts, reference=0)


def _maf(path: str) -> Path:
    return locate(Remote(path, (_MAF_URL,), _MAF_MD5, member=f"data/{path}"))


def _last_tenths(data: np.ndarray) -> list[np.ndarray]:
    """The last tenth is the test split, the last tenth of the rest the validation split."""
    rest, test = np.split(data, [len(data) - len(data) // 10])
    train, validation = np.split(rest, [len(rest) - len(rest) // 10])
    return [train, validation, test]


def _standardized(name: str, parts: Sequence[np.ndarray], reference: int | None = None) -> Dataset:
    """Standardize by the training split (`reference=0`) or, as the MAF paper did, by training and
    validation together.
    """
    scaled, scaling = standardize(
        parts, np.concatenate(parts[:2]) if reference is None else parts[reference]
    )
    return _dataset(name, scaled, scaling)


def _signal(data: np.ndarray) -> np.ndarray:
    """The rows of class 1, without the class."""
    if not np.isin(data[:, 0], (0, 1)).all():
        raise ValueError("its first column is no class")
    return table(data[data[:, 0] == 1, 1:])


def _dataset(
    name: str, parts: Sequence[np.ndarray], scaling: tuple[np.ndarray, np.ndarray] | None
) -> Dataset:
    """The splits in single precision; ValueError where that leaves no finite numbers."""
    if not np.isfinite(scaling or 0.0).all():
        raise ValueError("its numbers are missing, NaN or infinite when they are standardized")
    with np.errstate(over="ignore"):
        train, validation, test = (table(part.astype(np.float32)) for part in parts)
    if not train.shape[1] == validation.shape[1] == test.shape[1]:
        raise ValueError("its splits have different numbers of columns")
    return Dataset(name, train, validation, test, scaling=scaling)
