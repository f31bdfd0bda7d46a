"""Where stacks of causal convolutions look: receptive fields, and one ring buffer for the past of
all layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dgm_core.arguments import check_count, check_shape, check_sizes


def receptive_field(kernel_size: int, dilations: Sequence[int]) -> int:
    """The number of past inputs x_{t-1}, ..., x_{t-R} that step t depends on:  R = 1 + sum_l
    (kernel_size - 1) dilation_l.

    Example:
        >>> stack = [2**i for i in range(10)]
        >>> receptive_field(2, stack), receptive_field(2, 3 * stack), receptive_field(3, stack)
        (1024, 3070, 2047)
    """
    kernel_size = check_count("kernel_size", kernel_size)
    dilations = check_sizes("dilations", dilations, least=1)
    return 1 + sum((kernel_size - 1) * dilation for dilation in dilations)


def steps_of(dim: Any) -> tuple[int, int]:
    """The steps of a value over time, and the entries of a step.

    ValueError for values that are neither (steps,) nor (steps, entries).

    Example:
        >>> steps_of(16), steps_of((16, 2))
        ((16, 1), (16, 2))
    """
    shape = check_shape("dim", dim)
    if len(shape) > 2:
        raise ValueError(f"dim must be the steps, or (steps, entries of a step), got {dim}.")
    return shape[0], shape[1] if len(shape) > 1 else 1


@dataclass(frozen=True)
class Ring:
    """One flat ring buffer for the past of all layers: layer l keeps its last (kernel_size - 1)
    dilation_l values, the value of step t at row start_l + t mod length_l.

    Args:
        kernel_size: taps of each layer, the current one among them.
        dilations: steps between two taps, of each layer.

    Example:
        >>> ring = Ring(2, (1, 2, 4))
        >>> ring.rows, ring.taps(5).tolist(), ring.slots(5).tolist()
        (7, [[0], [2], [4]], [0, 2, 4])
    """

    kernel_size: int
    dilations: tuple[int, ...]

    @property
    def lengths(self) -> np.ndarray:
        """The rows of each layer, (layers,)."""
        return (self.kernel_size - 1) * np.asarray(self.dilations)

    @property
    def rows(self) -> int:
        """The rows of the buffer."""
        return int(self.lengths.sum())

    @property
    def starts(self) -> np.ndarray:
        """The first row of each layer, (layers,)."""
        return np.cumsum(self.lengths) - self.lengths

    @property
    def delays(self) -> np.ndarray:
        """The ages of the past taps, the oldest first, (layers, kernel_size - 1)."""
        return np.outer(self.dilations, np.arange(self.kernel_size - 1, 0, -1))

    def taps(self, t: Any) -> Any:
        """The rows of the past taps at step t, (layers, kernel_size - 1)."""
        lengths = self.lengths[:, None]
        return self.starts[:, None] + (t - self.delays) % np.maximum(lengths, 1)

    def slots(self, t: Any) -> Any:
        """The rows that take the values of step t, (layers,)."""
        return self.starts + t % np.maximum(self.lengths, 1)
