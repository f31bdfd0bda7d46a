"""Waveforms in [-1, 1]: mu-law companding, chunks, wave files of a folder, and a synthetic set."""

from __future__ import annotations

import wave
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dgm_core.arguments import check_count, check_seed, refuse
from dgm_core.data.dataset import SPLITS, Dataset
from dgm_core.data.files import DataError, reading


def mu_law(x: np.ndarray, mu: int = 255) -> np.ndarray:
    """Companding, which gives quiet samples more room:  f(x) = sign(x) ln(1 + mu |x|) / ln(1 + mu).

    Args:
        x: samples in [-1, 1], any shape.
        mu: at least 1.

    Raises:
        ValueError: for mu below 1 and samples outside [-1, 1].

    References:
        ITU-T recommendation G.711; van den Oord et al. (2016), arXiv:1609.03499, section 2.2.

    Example:
        >>> mu_law(np.array([-0.5, 0.0, 0.01, 1.0])).round(6)
        array([-0.875703,  0.      ,  0.228477,  1.      ])
    """
    mu, x = check_count("mu", mu), _samples(x)
    return np.sign(x) * np.log1p(mu * np.abs(x)) / np.log1p(mu)


def inverse_mu_law(y: np.ndarray, mu: int = 255) -> np.ndarray:
    """The samples of which `mu_law` makes y:  sign(y) ((1 + mu)^|y| - 1) / mu.

    Example:
        >>> inverse_mu_law(mu_law(np.array([-0.5, 0.01]))).round(6)
        array([-0.5 ,  0.01])
    """
    mu, y = check_count("mu", mu), _samples(y)
    return np.clip(np.sign(y) * np.expm1(np.abs(y) * np.log1p(mu)) / mu, -1, 1)


def mu_law_codes(x: np.ndarray, num_codes: int = 256) -> np.ndarray:
    """Samples in [-1, 1] as classes 0, ..., num_codes - 1, evenly on the scale of `mu_law` with mu
    = num_codes - 1; the nearest, half up.

    Example:
        >>> mu_law_codes(np.array([-1, -0.5, -0.01, 0, 0.01, 0.5, 1]))
        array([  0,  16,  98, 128, 157, 239, 255])
    """
    most = check_count("num_codes", num_codes, 2) - 1
    return np.floor((mu_law(x, most) + 1) / 2 * most + 0.5).astype(np.int64)


def mu_law_values(codes: np.ndarray, num_codes: int = 256) -> np.ndarray:
    """The samples that classes stand for; with an even number of codes none of them is zero.

    Raises:
        ValueError: for codes that are no integers from 0 to num_codes - 1.

    Example:
        >>> mu_law_values(np.array([16, 98, 128])).round(6)
        array([-4.96677e-01, -1.02250e-02,  8.60000e-05])
    """
    most, codes = check_count("num_codes", num_codes, 2) - 1, np.asarray(codes)
    if codes.dtype.kind not in "iu" or np.any(codes < 0) or np.any(codes > most):
        refuse("codes", f"integers from 0 to {most}", codes)
    return inverse_mu_law(2 * codes / most - 1, most)


def chunks(waves: Sequence[np.ndarray], length: int, hop: int | None = None) -> np.ndarray:
    """Equal pieces of waveforms, (num, length), what is left at their ends dropped.

    Args:
        waves: waveforms (samples,) of any lengths.
        length: samples of a piece.
        hop: samples from the beginning of one to that of the next (default: length, which cuts).

    Raises:
        ValueError: when no waveform has `length` samples.

    Example:
        >>> chunks([np.arange(5.0), np.arange(2.0)], 2)
        array([[0., 1.],
               [2., 3.],
               [0., 1.]], dtype=float32)
    """
    length = check_count("length", length)
    hop = length if hop is None else check_count("hop", hop)
    if not isinstance(waves, (list, tuple)) or any(np.ndim(w) != 1 for w in waves):
        refuse("waves", "a sequence of arrays (samples,)", waves)
    pieces = [
        np.lib.stride_tricks.sliding_window_view(w, length)[::hop]
        for w in waves
        if len(w) >= length
    ]
    if not pieces:
        longest = max(map(len, waves), default=0)
        raise ValueError(
            f"No waveform has the {length} samples of a chunk, the longest has {longest}: take a "
            "smaller length."
        )
    return np.concatenate(pieces).astype(np.float32)


def read_wave(path: str | Path) -> tuple[np.ndarray, int]:
    """The samples in [-1, 1] and the rate (Hz) of a wave file of integers (8, 16, 24 or 32 bits);
    channels are averaged.

    Raises:
        DataError: for a file that is missing, damaged or of another format.
    """
    path = Path(path)
    with reading(path):
        with wave.open(str(path), "rb") as file:
            channels, width, rate, frames = file.getparams()[:4]
            data = file.readframes(frames)
        if len(data) != frames * channels * width or path.stat().st_size < 44 + len(data):
            raise ValueError("it ends before its last sample")
        if not frames or not rate:
            raise ValueError("it holds no samples")
        samples = _integers(data, width).reshape(frames, channels)
        return (samples.mean(1) / 2.0 ** (8 * width - 1)).astype(np.float32), rate


def _integers(data: bytes, width: int) -> np.ndarray:
    """Little-endian samples, those of 8 bits without a sign."""
    if width == 1:
        return np.frombuffer(data, np.uint8).astype(float) - 128
    if width == 3:
        low, middle, high = np.frombuffer(data, np.uint8).reshape(-1, 3).T.astype(np.int32)
        return (low | middle << 8 | high << 16).astype(float) - (high >= 128) * 2.0**24
    return np.frombuffer(data, f"<i{width}").astype(float)


def wave_folder(
    folder: str | Path, length: int, *, hop: int | None = None, held_out: float = 0.1
) -> Dataset:
    """The wave files of a folder as chunks (num, length), labeled by their file.

    Of every file the last part is the test split and the part before it the validation split, so
    that no chunk shares samples with one of another split; all files must have one rate.

    Args:
        folder: with files `*.wav`, taken in the order of their names.
        length: samples of a chunk.
        hop: as in `chunks`.
        held_out: the fraction of each file for validation, and for the test.

    Raises:
        DataError: when there are no wave files, one is damaged, or their rates differ.
        ValueError: when the parts of the files are shorter than a chunk.
    """
    if not isinstance(held_out, float) or not 0 < held_out < 0.5:
        refuse("held_out", "a number between 0 and 0.5", held_out)
    paths = sorted(Path(folder).glob("*.wav"))
    if not paths:
        raise DataError(f"The folder {folder} has no files *.wav.")
    read = [read_wave(path) for path in paths]
    if len(rates := {rate for _, rate in read}) > 1:
        raise DataError(
            f"The wave files of {folder} must have one rate, got {sorted(rates)} Hz: resample them."
        )
    parts: dict[str, Any] = {split: ([], []) for split in SPLITS}
    for label, (samples, _) in enumerate(read):
        ends = [int(len(samples) * (1 - 2 * held_out)), int(len(samples) * (1 - held_out))]
        for split, piece in zip(SPLITS, np.split(samples, ends), strict=True):
            if len(piece) >= length:
                found = chunks([piece], length, hop)
                parts[split][0].append(found)
                parts[split][1].append(np.full(len(found), label))
    if short := [split for split in SPLITS if not parts[split][0]]:
        raise ValueError(
            f"No file of {folder} has the {length} samples of a chunk in its part for {short}: "
            "take a smaller length or a larger held_out."
        )
    arrays = {split: np.concatenate(found) for split, (found, _) in parts.items()}
    labels = {split: np.concatenate(found) for split, (_, found) in parts.items()}
    train, validation, test = (arrays[split] for split in SPLITS)
    return Dataset(Path(folder).name, train, validation, test, labels=labels)


def tones(seed: int) -> Dataset:
    """4,000 / 500 / 500 synthetic notes of 256 samples in [-1, 1], eight pitches, labeled.

    x_t = e^(-t / 200) sum_{h=1..4} (0.45 / h) sin(2 pi h f t + phase_h) / 1.2 + noise of sd 0.01,
    with f = 2^(k / 8) / 32 cycles per sample for the pitches k = 0, ..., 7.
    """
    rng = np.random.default_rng(check_seed("seed", seed, 0))
    num, length = 5_000, 256
    pitches, t, h = rng.integers(8, size=num), np.arange(length), np.arange(1, 5)[:, None]
    phases = rng.uniform(0, 2 * np.pi, (num, 4, 1))
    cycles = (2.0 ** (pitches / 8) / 32)[:, None, None] * h * t
    notes = (0.45 / h * np.sin(2 * np.pi * cycles + phases)).sum(1) / 1.2 * np.exp(-t / 200)
    x = np.clip(notes + 0.01 * rng.standard_normal((num, length)), -1, 1).astype(np.float32)
    train, validation, test = np.split(x, (4_000, 4_500))
    labels = dict(zip(SPLITS, np.split(pitches, (4_000, 4_500)), strict=True))
    return Dataset("tones", train, validation, test, labels=labels)


def _samples(x: Any) -> np.ndarray:
    """Samples as an array, after a look at all of them."""
    x = np.asarray(x)
    if x.dtype.kind not in "fiu":
        raise ValueError(f"Samples must be an array of real numbers, got type {x.dtype}.")
    if not np.all(np.abs(x) <= 1):  # NaN fails too
        raise ValueError(
            f"Samples must lie in [-1, 1] without NaN, got values from {np.min(x)} to {np.max(x)}."
        )
    return x
