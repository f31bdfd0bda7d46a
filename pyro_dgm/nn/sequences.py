"""Sequences of unequal lengths, padded to one: which steps are data, and arrays without what stands
in the padding.
"""

from typing import Any

import torch
from torch import Tensor

from dgm_core.arguments import check_count
from dgm_core.paths import broadcast, check_lengths
from pyro_dgm.nn.requirements import require

__all__ = ["step_mask", "without_padding"]


def checked_lengths(lengths: Any, length: int) -> Tensor:
    """Lengths (*batch,) as integers from 0 to `length`."""
    lengths = torch.as_tensor(lengths)
    check_lengths(lengths)
    good = (lengths >= 0) & (lengths <= length)
    require("lengths", f"integers from 0 to {length}", lengths, good)
    return lengths


def step_mask(lengths: Any, length: int) -> Tensor:
    """Which steps are data: (*batch,) -> (*batch, length), true for the first `lengths` of them.

    Args:
        lengths: integers from 0 to length.
        length: of the padded sequences.

    Raises:
        ValueError: for lengths that are no such integers.

    Example:
        >>> step_mask(torch.tensor([2, 0]), 3)
        tensor([[ True,  True, False],
                [False, False, False]])
    """
    length = check_count("length", length)
    lengths = checked_lengths(lengths, length)
    return torch.arange(length, device=lengths.device) < lengths[..., None]


def without_padding(x: Tensor, lengths: Any) -> Tensor:
    """Sequences x (*batch, length, features) with zeros behind their lengths (*batch,), whatever
    stands there, NaN included; no gradient passes to what is replaced.

    Example:
        >>> without_padding(torch.tensor([[[1.0], [torch.nan]]]), torch.tensor([1]))
        tensor([[[1.],
                 [0.]]])
    """
    mask = step_mask(lengths, x.shape[-2])
    broadcast(x.shape[:-2], lengths=mask.shape[:-1])
    return torch.where(mask[..., None], x, torch.zeros((), dtype=x.dtype, device=x.device))
