"""Power spectra of waveforms."""

from math import pi

import torch
from torch import Tensor

from dgm_core.arguments import check_count

__all__ = ["mean_power"]


def mean_power(x: Tensor, frame: int, hop: int | None = None) -> Tensor:
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
        >>> mean_power(torch.ones(5, 16), 8).shape
        torch.Size([5, 1, 5])
    """
    frame = check_count("frame", frame, 2)
    hop = max(frame // 4, 1) if hop is None else check_count("hop", hop)
    if x.ndim not in (2, 3) or x.shape[1] < frame:
        raise ValueError(
            f"Power spectra need waveforms (num, steps) or (num, steps, channels) of at least "
            f"frame = {frame} steps, got shape {tuple(x.shape)}."
        )
    x = x[:, None] if x.ndim == 2 else x.movedim(1, 2)
    frames = x.unfold(-1, frame, hop)  # (num, channels, frames, frame)
    window = 0.5 - 0.5 * torch.cos(
        2 * pi * torch.arange(frame, dtype=x.dtype, device=x.device) / frame
    )
    spectrum = torch.fft.rfft(frames * window)
    power = (spectrum.real.square() + spectrum.imag.square()).mean(-2)
    return power / window.square().sum()
