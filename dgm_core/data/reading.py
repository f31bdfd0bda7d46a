"""Reading data files that may be damaged or planted: nothing in them is run, followed or believed.

Each function raises some exception for what it refuses; `dgm_core.data.files.reading` makes a
`DataError` of it that names the file.
"""

from __future__ import annotations

import gzip
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

MOST = 2**32  # bytes that a file may unpack to: several times the largest data set
_SAFE = {  # what a table of numbers in a pickle is made of, in all versions of its libraries
    "DataFrame", "BlockManager", "_unpickle_block", "new_block", "_new_Index", "Index",
    "Int64Index", "RangeIndex", "__pyx_unpickle_NDArrayBacked", "StringArray", "StringDtype",
    "ArrowStringArray", "_reconstruct", "_frombuffer", "ndarray", "dtype", "scalar",
}  # fmt: skip
_PLAIN = {"slice", "object", "_reconstructor", "encode"}
_FILTERS = (1, 2, 3)  # of HDF5: deflate, shuffle, fletcher32; others are code from elsewhere


def read_bytes(path: Path) -> bytes:
    """The contents of a file, decompressed when it is a gzip file, whatever its name."""
    contents = path.read_bytes()
    if contents[:2] != b"\x1f\x8b":
        return contents
    with gzip.open(path) as file:
        contents = file.read(MOST + 1)
    if len(contents) > MOST:
        raise ValueError("it unpacks to more than any data set has")
    return contents


def read_lines(path: Path) -> list[str]:
    """The lines of a text file, each of them ended: a file that broke off is refused.

    A compressed one may lack the last end, since it says by itself whether it is whole.
    """
    contents = read_bytes(path)
    if not contents.endswith(b"\n") and path.stat().st_size == len(contents):
        raise ValueError("its last line is not ended, as in a file that broke off")
    return contents.decode().splitlines()


def read_csv(path: Path) -> np.ndarray:
    """The numbers below the line of names of a CSV file, (rows, columns), NaN where one lacks."""
    import pandas as pd

    with open(path, "rb") as file:
        line, counts = file.readline(), set()  # of the names, which may be fewer
        for line in file:
            counts.add(line.count(b","))
    if len(counts) != 1 or not line.endswith(b"\n"):
        raise ValueError("its lines have different numbers of entries, as in a file that broke off")
    return pd.read_csv(path, index_col=False).to_numpy(float)


def read_npy(path: Path) -> np.ndarray:
    """The array of an `.npy` file without objects, whose header must fit its length."""
    mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(mapped, np.ndarray):
        raise ValueError("not an .npy file")
    return np.array(mapped)


def read_npz(path: Path, names: tuple[str, ...]) -> list[np.ndarray]:
    """Arrays by name from an `.npz` file without objects."""
    with zipfile.ZipFile(path) as archive:
        check_size(archive)
    with np.load(path, allow_pickle=False) as arrays:
        return [arrays[name] for name in names]


def read_hdf5(path: Path, names: tuple[str, ...]) -> list[np.ndarray]:
    """Arrays by name that lie in this very HDF5 file: links and external storage are refused."""
    import h5py

    arrays = []
    with h5py.File(path, "r") as file:
        for name in names:
            if not isinstance(file.get(name, getlink=True), h5py.HardLink):
                raise ValueError(f"{name!r} is missing or a link")
            found = file[name]
            if not isinstance(found, h5py.Dataset) or found.external or found.is_virtual:
                raise ValueError(f"{name!r} does not lie in this file")
            settings = found.id.get_create_plist()
            filters = {settings.get_filter(index)[0] for index in range(settings.get_nfilters())}
            if found.dtype.kind not in "fiu" or found.nbytes > MOST or not filters <= {*_FILTERS}:
                raise ValueError(f"{name!r} is no table of numbers of a known size")
            arrays.append(table(found[:]))
    return arrays


def read_frame(path: Path) -> Any:
    """The pandas table in a pickle; only what such a table consists of is let in."""
    import pandas as pd
    from pandas.compat.pickle_compat import Unpickler

    class Restricted(Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            top = module.partition(".")[0]
            ours = top in ("pandas", "numpy") and name in _SAFE
            plain = module in ("builtins", "__builtin__", "copyreg", "copy_reg", "_codecs")
            if ours or (plain and name in _PLAIN):
                return super().find_class(module, name)
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no table has")

    with open(path, "rb") as file:
        frame = Restricted(file, encoding="latin-1").load()
    if not isinstance(frame, pd.DataFrame):
        raise ValueError("it holds no pandas table")
    return frame


def table(values: Any) -> np.ndarray:
    """Finite numbers as (rows, columns), float64 unless they are floats already."""
    array = np.asarray(values)
    if array.ndim != 2 or 0 in array.shape or array.dtype.kind not in "fiub":
        raise ValueError(f"no table of numbers: shape {array.shape}, type {array.dtype}")
    array = array if array.dtype.kind == "f" else array.astype(float)
    if count := np.size(array) - np.count_nonzero(np.isfinite(array)):
        raise ValueError(f"{count} of its {array.size} numbers are missing, NaN or infinite")
    return array


def check_size(archive: zipfile.ZipFile) -> None:
    """Refuses a zip file that unpacks to more than any data set has."""
    if sum(entry.file_size for entry in archive.infolist()) > MOST:
        raise ValueError("it unpacks to more than any data set has")
