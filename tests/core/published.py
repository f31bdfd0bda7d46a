"""Small files in the formats in which the data sets are published."""

import gzip
import hashlib

import numpy as np

NOWHERE = "http://127.0.0.1:9/"  # refuses every connection at once


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def idx(array):
    return (
        bytes([0, 0, 8, array.ndim])
        + np.array(array.shape, ">u4").tobytes()
        + array.astype(np.uint8).tobytes()
    )


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
