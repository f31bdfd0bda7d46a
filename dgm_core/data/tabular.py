"""Tables of real numbers: the five sets of the MAF paper and five regression sets of the UCI
repository.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dgm_core.data.dataset import SPLITS, Dataset, split_indices, standardise
from dgm_core.data.files import Remote, locate, read_bytes, reading

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
        data = np.load(path, allow_pickle=False)
        rng = np.random.RandomState(42)  # the published protocol
        rng.shuffle(data)
        data = np.delete(data, (1, 3), axis=1)
        voltage, gap, meters = (
            0.01 * rng.rand(len(data), 1),
            0.001 * rng.rand(len(data), 1),
            rng.rand(len(data), 3),
        )
        data = data + np.hstack([gap, voltage, meters, np.zeros((len(data), 1))])
    return _standardised("power", _last_tenths(data))


def gas() -> Dataset:
    """Readings of 8 gas sensors. The published file is a pickle: only one with the right checksum
    or your own is opened.
    """
    import pandas as pd

    path = _maf("gas/ethylene_CO.pickle")
    with reading(path):
        data = pd.read_pickle(path).drop(columns=["Meth", "Eth", "Time"]).to_numpy(float)
        while np.any(crowded := (np.corrcoef(data.T) > 0.98).sum(1) > 1):
            data = np.delete(data, np.flatnonzero(crowded)[0], axis=1)
        mean, deviation = data.mean(0), data.std(0, ddof=1)
    return _dataset("gas", _last_tenths((data - mean) / deviation), (mean, deviation))


def hepmass() -> Dataset:
    """Particle collisions, the signal class, 21 columns (those with repeated values are
    left out).
    """
    import pandas as pd

    paths = [_maf(f"hepmass/1000_{part}.csv") for part in ("train", "test")]
    tables = []
    for path in paths:
        with reading(path):
            table = pd.read_csv(path, index_col=False).to_numpy(float)
            tables.append(table[table[:, 0] == 1, 1:])
    train, test = tables[0], tables[1][:, :-1]  # the test file has one column too many
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
        return _standardised("miniboone", _last_tenths(np.load(path, allow_pickle=False)))


def bsds300() -> Dataset:
    """Patches of natural images, 8x8 without the last pixel and without their mean: 63 columns."""
    import h5py

    path = _maf("BSDS300/BSDS300.hdf5")
    with reading(path), h5py.File(path, "r") as file:
        return _dataset("bsds300", [file[part][:] for part in SPLITS], None)


def uci(name: str, seed: int) -> Dataset:
    """A regression set, the target in the last column; 80 / 10 / 10 % splits, standardised by the
    training split.

    Reference: UCI Machine Learning Repository, in the form of github.com/treforevans/uci_datasets.
    """
    path = locate(Remote(f"uci/{name}.csv.gz", (_UCI_URL.format(name),), _UCI[name]))
    with reading(path):
        table = np.loadtxt(read_bytes(path).decode().splitlines(), delimiter=",", ndmin=2)
    tenth = len(table) // 10
    return _standardised(
        name, [table[part] for part in split_indices(len(table), (tenth, tenth), seed)], reference=0
    )


def _maf(path: str) -> Path:
    return locate(Remote(path, (_MAF_URL,), _MAF_MD5, member=f"data/{path}"))


def _last_tenths(data: np.ndarray) -> list[np.ndarray]:
    """The last tenth is the test split, the last tenth of the rest the validation split."""
    rest, test = np.split(data, [len(data) - len(data) // 10])
    train, validation = np.split(rest, [len(rest) - len(rest) // 10])
    return [train, validation, test]


def _standardised(name: str, parts: Sequence[np.ndarray], reference: int | None = None) -> Dataset:
    """Standardise by the training split (`reference=0`) or, as the MAF paper did, by training and
    validation together.
    """
    scaled, scaling = standardise(
        parts, np.concatenate(parts[:2]) if reference is None else parts[reference]
    )
    return _dataset(name, scaled, scaling)


def _dataset(
    name: str, parts: Sequence[np.ndarray], scaling: tuple[np.ndarray, np.ndarray] | None
) -> Dataset:
    train, validation, test = (part.astype(np.float32) for part in parts)
    return Dataset(name, train, validation, test, scaling=scaling)
