"""Data sets by name, two-dimensional toys, and what turns gray levels into the support of a
likelihood.

Example:
    >>> digits = load("digits")
    >>> digits.train.shape, digits.validation.shape, digits.test.shape, digits.image_shape
    ((1297, 64), (200, 64), (300, 64), (1, 8, 8))
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial

import numpy as np

from dgm_core.data import audio, images, sequences, tabular
from dgm_core.data.audio import (
    chunks,
    inverse_mu_law,
    mu_law,
    mu_law_codes,
    mu_law_values,
    read_wave,
    wave_folder,
)
from dgm_core.data.dataset import Dataset, split_indices
from dgm_core.data.files import DataError, cache_folder
from dgm_core.data.preprocessing import (
    PROTOCOLS,
    binarize,
    dequantize,
    inverse_logit_transform,
    logit_transform,
)
from dgm_core.data.series import co2, elnino
from dgm_core.data.toys import (
    TOYS,
    checkerboard,
    eight_gaussians,
    pinwheel,
    spirals,
    twenty_five_gaussians,
    two_moons,
)

__all__ = [
    "PROTOCOLS",
    "DataError",
    "Dataset",
    "binarize",
    "cache_folder",
    "checkerboard",
    "chunks",
    "co2",
    "dequantize",
    "describe",
    "eight_gaussians",
    "elnino",
    "inverse_logit_transform",
    "inverse_mu_law",
    "load",
    "logit_transform",
    "mu_law",
    "mu_law_codes",
    "mu_law_values",
    "names",
    "pinwheel",
    "read_wave",
    "spirals",
    "split_indices",
    "twenty_five_gaussians",
    "two_moons",
    "wave_folder",
]


def _toy(name: str, seed: int) -> Dataset:
    """10,000 / 2,000 / 2,000 samples of a two-dimensional distribution."""
    samples = TOYS[name](14_000, seed)
    return Dataset(name, samples[:10_000], samples[10_000:12_000], samples[12_000:])


_LOADERS: dict[str, Callable[..., Dataset]] = {
    "digits": partial(images.digits, num_validation=200, num_test=300, seed=0),
    "mnist": partial(images.mnist, num_validation=10_000, seed=0),
    "fashion_mnist": partial(images.fashion_mnist, num_validation=10_000, seed=0),
    "omniglot": partial(images.omniglot, num_validation=1_345, num_test=8_070, seed=0),
    **{
        name: partial(sequences.polyphonic, name)
        for name in ("jsb_chorales", "muse_data", "piano_midi")
    },
    "tones": partial(audio.tones, seed=0),
    "power": tabular.power,
    "gas": tabular.gas,
    "hepmass": tabular.hepmass,
    "miniboone": tabular.miniboone,
    "bsds300": tabular.bsds300,
    **{
        name: partial(tabular.uci, name, seed=0)
        for name in ("elevators", "kin40k", "pol", "protein", "wine")
    },
    **{name: partial(_toy, name, seed=0) for name in TOYS},
}


def names() -> list[str]:
    """The names that `load` knows."""
    return list(_LOADERS)


def describe(name: str) -> str:
    """One line about a data set.

    Example:
        >>> describe("mnist")
        '70,000 handwritten digits, 28x28; the published 10,000 test images are the test split.'
    """
    loader = _loader(name)
    function = loader.func if isinstance(loader, partial) else loader
    if function is _toy:
        function = TOYS[name]
    return (inspect.getdoc(function) or "").splitlines()[0]


def load(name: str, **options: int) -> Dataset:
    """A data set in three splits, from this machine or downloaded once.

    Args:
        name: one of `names()`.
        options: `seed` of the split (digits, mnist, fashion_mnist, omniglot, the UCI sets) or of
            the draw (toys, tones), `num_validation` (the images) and `num_test` (digits,
            omniglot). Sets with three published splits take none.

    Raises:
        ValueError: for an unknown name or an option that the data set does not take.
        DataError: when its files can neither be found nor downloaded, or are damaged.

    Files are looked for in the folder `DGM_DATA_DIR`, then in the cache (`cache_folder()`), under
    the same paths in both: mnist/ and fashion_mnist/ with the four IDX files, compressed or not;
    omniglot/omniglot28.npz or the two published zip files; polyphonic/JSB_Chorales.mat and its
    like; uci/NAME.csv.gz; power/data.npy, gas/ethylene_CO.pickle, hepmass/1000_train.csv and
    1000_test.csv, miniboone/data.npy, BSDS300/BSDS300.hdf5, as in the published archive.
    """
    loader = _loader(name)
    known = set(loader.keywords) if isinstance(loader, partial) else set()
    if unknown := sorted(set(options) - known):
        takes = (
            f"takes {', '.join(sorted(known))}"
            if known
            else "has fixed splits and takes no options"
        )
        raise ValueError(f"The data set {name!r} {takes}, got {', '.join(unknown)}.")
    for option, value in options.items():
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
            raise ValueError(f"{option} must be a whole number, got {value!r}.")
    if options.get("seed", 0) < 0:
        raise ValueError(f"seed must be at least 0, got {options['seed']}.")
    try:
        return loader(**options)
    except ValueError as error:
        if options:
            raise
        raise DataError(f"The files of the data set {name!r} are not whole: {error}") from error


def _loader(name: str) -> Callable[..., Dataset]:
    if not isinstance(name, str) or name not in _LOADERS:
        raise ValueError(f"There is no data set {name!r}; there are {', '.join(_LOADERS)}.")
    return _LOADERS[name]
