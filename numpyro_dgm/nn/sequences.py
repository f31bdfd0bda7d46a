"""Sequences of unequal lengths, padded to one: which steps are data, and arrays without what stands
in the padding.
"""

from typing import Any

import jax.numpy as jnp
from jax import Array

from dgm_core.arguments import check_count
from dgm_core.paths import broadcast, check_lengths
from numpyro_dgm.nn.requirements import require

__all__ = ["step_mask", "without_padding"]


def checked_lengths(lengths: Any, length: int) -> Array:
    """Lengths (*batch,) as integers from 0 to `length`."""
    lengths = jnp.asarray(lengths)
    check_lengths(lengths)
    good = (lengths >= 0) & (lengths <= length)
    require("lengths", f"integers from 0 to {length}", lengths, good)
    return lengths


def step_mask(lengths: Any, length: int) -> Array:
    """Which steps are data: (*batch,) -> (*batch, length), true for the first `lengths` of them.

    Args:
        lengths: integers from 0 to length.
        length: of the padded sequences.

    Raises:
        ValueError: for lengths that are no such integers.

    Example:
        >>> step_mask(jnp.array([2, 0]), 3)
        Array([[ True,  True, False],
               [False, False, False]], dtype=bool)
    """
    length = check_count("length", length)
    lengths = checked_lengths(lengths, length)
    return jnp.arange(length) < lengths[..., None]


def without_padding(x: Array, lengths: Any) -> Array:
    """Sequences x (*batch, length, features) with zeros behind their lengths (*batch,), whatever
    stands there, NaN included; no gradient passes to what is replaced.

    Example:
        >>> without_padding(jnp.array([[[1.0], [jnp.nan]]]), jnp.array([1]))
        Array([[[1.],
                [0.]]], dtype=float32)
    """
    mask = step_mask(lengths, x.shape[-2])
    broadcast(x.shape[:-2], lengths=mask.shape[:-1])
    return jnp.where(mask[..., None], x, jnp.zeros((), x.dtype))
