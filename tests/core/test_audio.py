"""Waveforms: mu-law against its printed table, chunks, wave files whole and damaged."""

import contextlib
import wave

import numpy as np
import pytest

from dgm_core import data
from tests.core import damage

X = np.array([-1, -0.5, -0.01, 0, 0.01, 0.5, 1])


def write(path, samples, rate=16_000, width=2, channels=1):
    """A wave file of integers (frames,) or (frames, channels)."""
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, width, rate, 0, "NONE", ""))
        if width == 3:
            samples = np.asarray(samples, "<i4").reshape(-1, 1).view(np.uint8)[:, :3]
        file.writeframes(np.asarray(samples, samples.dtype.newbyteorder("<")).tobytes())


def test_mu_law_table():
    f = [-1, -0.875703, -0.228477, 0, 0.228477, 0.875703, 1]
    np.testing.assert_allclose(data.mu_law(X), f, atol=5e-7)
    codes = data.mu_law_codes(X)
    assert codes.tolist() == [0, 16, 98, 128, 157, 239, 255]
    decoded = [-1, -0.496677, -0.010225, 0.000086, 0.010225, 0.496677, 1]
    np.testing.assert_allclose(data.mu_law_values(codes), decoded, atol=5e-7)


@pytest.mark.parametrize("num", [2, 5, 64, 65_536])
def test_codes_are_those_of_their_values(num):
    codes = np.arange(num)
    values = data.mu_law_values(codes, num)
    assert (np.diff(values) > 0).all()
    np.testing.assert_allclose(values[[0, -1]], [-1, 1], atol=1e-15)
    np.testing.assert_array_equal(data.mu_law_codes(values, num), codes)
    np.testing.assert_allclose(data.inverse_mu_law(data.mu_law(values, 7), 7), values, atol=1e-15)


def test_chunks_do_not_run_over_the_ends():
    waves = [np.arange(7.0), 10 + np.arange(3.0), 20 + np.arange(4.0)]
    assert data.chunks(waves, 4).tolist() == [[0, 1, 2, 3], [20, 21, 22, 23]]
    starts = data.chunks(waves, 3, hop=2)[:, 0]
    assert starts.tolist() == [0, 2, 4, 10, 20]


@pytest.mark.parametrize(
    ("width", "most"), [(1, 127), (2, 2**15 - 1), (3, 2**23 - 1), (4, 2**31 - 1)]
)
def test_wave_files_of_every_width(tmp_path, width, most):
    values = np.array([0, most, -most - 1, 1, -1, -2])
    kinds = {1: np.uint8, 2: np.int16, 3: np.int32, 4: np.int32}
    write(
        tmp_path / "a.wav", (values + (128 if width == 1 else 0)).astype(kinds[width]), width=width
    )
    samples, rate = data.read_wave(tmp_path / "a.wav")
    assert rate == 16_000 and samples.dtype == np.float32
    np.testing.assert_allclose(samples, values / (most + 1), rtol=1e-6)


def test_a_folder_of_wave_files(tmp_path):
    stereo = np.stack([np.arange(100), 3 * np.arange(100)], -1).astype(np.int16)
    write(tmp_path / "b.wav", stereo, channels=2)
    write(tmp_path / "a.wav", np.arange(1000, 1200).astype(np.int16))
    found = data.wave_folder(tmp_path, 5)
    assert [len(x) for x in (found.train, found.validation, found.test)] == [48, 6, 6]
    assert found.labels["test"].tolist() == [0, 0, 0, 0, 1, 1] and found.num_classes == 2
    np.testing.assert_allclose(found.test[0] * 2**15, np.arange(1180, 1185), rtol=1e-6)
    np.testing.assert_allclose(found.test[-1] * 2**15, 2 * np.arange(95, 100), rtol=1e-6)
    write(tmp_path / "c.wav", np.arange(100).astype(np.int16), rate=8_000)
    with pytest.raises(data.DataError, match=r"must have one rate, got \[8000, 16000\] Hz"):
        data.wave_folder(tmp_path, 5)


def test_damaged_wave_files_are_refused_or_whole(tmp_path):
    rng = np.random.default_rng(0)
    path, values = tmp_path / "a.wav", rng.integers(-(2**15), 2**15, 400).astype(np.int16)
    write(path, values)
    contents, refused = path.read_bytes(), 150
    for _ in range(150):
        spoil = damage.ANY[int(rng.integers(len(damage.ANY)))]
        path.write_bytes(spoil(rng, contents))
        with contextlib.suppress(data.DataError):
            samples, rate = data.read_wave(path)
            assert samples.ndim == 1 and len(samples) and np.abs(samples).max() <= 1 and rate
            refused -= 1
    assert refused > 40
    for length in range(0, len(contents), 7):
        path.write_bytes(contents[:length])
        with pytest.raises(data.DataError, match="damaged"):
            data.read_wave(path)


def test_tones_have_their_pitches():
    tones = data.load("tones")
    assert tones.train.shape == (4_000, 256) and tones.train.dtype == np.float32
    assert np.abs(tones.train).max() <= 1 and tones.num_classes == 8
    power = np.abs(np.fft.rfft(tones.test * np.hanning(256), 4096)) ** 2
    found = power.argmax(1) / 4096
    expected = 2.0 ** (tones.labels["test"] / 8) / 32
    assert np.median(np.abs(found / expected - 1)) < 0.02
    assert not np.array_equal(tones.train, data.load("tones", seed=1).train)


@pytest.mark.parametrize(
    ("use", "match"),
    [
        (lambda: data.mu_law(np.array([1.5])), r"Samples must lie in \[-1, 1\] without NaN"),
        (lambda: data.mu_law(np.array([np.nan])), r"Samples must lie in \[-1, 1\] without NaN"),
        (lambda: data.mu_law_values(np.array([256])), "codes must be integers from 0 to 255"),
        (lambda: data.mu_law_values(np.array([0.0])), "codes must be integers from 0 to 255"),
        (lambda: data.mu_law_codes(X, 1), "num_codes must be an integer of at least 2, got 1"),
        (
            lambda: data.chunks([X], 8),
            "No waveform has the 8 samples of a chunk, the longest has 7",
        ),
        (lambda: data.chunks(X, 8), "waves must be a sequence of arrays"),
        (lambda: data.wave_folder("nowhere", 8), "The folder nowhere has no files"),
        (lambda: data.wave_folder(".", 8, held_out=0.5), "held_out must be a number between"),
        (lambda: data.read_wave("nowhere.wav"), "nowhere.wav is damaged or not what its name says"),
    ],
)
def test_bad_input(use, match):
    with pytest.raises((ValueError, data.DataError), match=match):
        use()
