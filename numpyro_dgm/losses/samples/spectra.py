"""Power spectra of waveforms."""

from math import pi

import jax.numpy as jnp
import numpy as np
from jax import Array

from dgm_core.arguments import check_count

__all__ = ["mean_power"]


def mean_power(x: Array, frame: int, hop: int | None = None) -> Array:
    """The mean power of each frequency, (1 / M) sum_m |sum_n w_n x_{m hop + n} e^(-2 pi i f n /
    frame)|^2 / sum_n w_n^2,  w the Hann window 0.5 - 0.5 cos(2 pi n / frame): of white noise its
    variance.

    Args:
        x: waveforms.
        frame: samples of a window.
        hop: samples from one to the next (default frame // 4, at least 1).

    Shapes:
        x (num, steps) or (num, steps, channels) -> (num, channels or 1, frame // 2 + 1).

    Raises:
        ValueError: for arrays of other shapes, and fewer steps than a frame has.

    References:
        Welch (1967), IEEE Trans. Audio Electroacoust. 15.

    Example:
        >>> mean_power(jnp.ones((5, 16)), 8).shape
        (5, 1, 5)
    """
    frame = check_count("frame", frame, 2)
    hop = max(frame // 4, 1) if hop is None else check_count("hop", hop)
    if x.ndim not in (2, 3) or x.shape[1] < frame:
        raise ValueError(
            f"Power spectra need waveforms (num, steps) or (num, steps, channels) of at least "
            f"frame = {frame} steps, got shape {tuple(x.shape)}."
        )
    x = x[:, None] if x.ndim == 2 else x.swapaxes(1, 2)
    starts = np.arange(0, x.shape[-1] - frame + 1, hop)
    frames = x[..., starts[:, None] + np.arange(frame)]  # (num, channels, frames, frame)
    window = 0.5 - 0.5 * np.cos(2 * pi * np.arange(frame) / frame)
    spectrum = jnp.fft.rfft(frames * window.astype(x.dtype))
    power = (spectrum.real**2 + spectrum.imag**2).mean(-2)
    return power / (window**2).sum()
