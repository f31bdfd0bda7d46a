"""CIFAR-10, from the binary files in the folder cifar10/ of DGM_DATA_DIR."""

import gzip
import os
from pathlib import Path

import numpy as np


def cifar(file: str) -> tuple[np.ndarray, np.ndarray]:
    """Photographs (num, 3, 32, 32) in [0, 1] and their labels, of a file compressed or not."""
    found = (Path(os.environ["DGM_DATA_DIR"]) / "cifar10" / file).read_bytes()
    found = gzip.decompress(found) if found.startswith(b"\x1f\x8b") else found
    rows = np.frombuffer(found, np.uint8).reshape(-1, 3073)
    return rows[:, 1:].reshape(-1, 3, 32, 32) / 255.0, rows[:, 0].astype(int)


def photographs() -> list[tuple[np.ndarray, np.ndarray]]:
    """To train and to test, each with labels."""
    return [cifar(file) for file in ("data_batch_1.bin.gz", "test_batch.bin.gz")]
