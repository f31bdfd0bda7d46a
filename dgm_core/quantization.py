"""Quantizers: what is decided without a tensor."""

from __future__ import annotations

from math import atanh, prod
from typing import Any

from dgm_core.arguments import (
    check_count,
    check_fraction,
    check_image_shape,
    check_number,
    check_shape,
    check_weight,
)

__all__ = [
    "check_decay",
    "check_encoder",
    "check_index_prior",
    "check_levels",
    "check_temperature",
    "grid_constants",
    "not_a_code_map",
]

_MARGIN = 1e-3  # how far the ends of a bounded number stay from the next level


def check_decay(decay: Any, restart: Any) -> tuple[float | None, float]:
    """Decay and restart of a codebook.

    Example:
        >>> check_decay(0.99, 0.1), check_decay(None, 0.0)
        ((0.99, 0.1), (None, 0.0))
    """
    decay = None if decay is None else check_fraction("decay", decay)
    restart = check_fraction("restart", restart)
    if decay is None and restart:
        raise ValueError(
            "restart moves codes that are moving averages, and decay=None makes them weights that "
            f"an optimizer moves: give a decay, or restart=0, got restart={restart}."
        )
    return decay, restart


def check_levels(levels: Any, dim: int) -> tuple[int, ...]:
    """The number of levels of each of `dim` entries, one for all or a tuple.

    Example:
        >>> check_levels(5, 2)
        (5, 5)
    """
    found = (levels,) * dim if isinstance(levels, int) else check_shape("levels", levels)
    if len(found) != dim:
        raise ValueError(
            f"levels must be one number for each of the {dim} entries of a code, got {levels!r}."
        )
    return tuple(check_count("levels", level, 3) for level in found)


def grid_constants(levels: tuple[int, ...]) -> list[tuple[float, float, float, int, int]]:
    """Of each entry: half the width that tanh is stretched to, what is taken off behind it, and
    added before it so that zero stays zero; the number of levels below zero; the weight of its
    level in an index.

    Example:
        >>> [(low, weight) for *_, low, weight in grid_constants((5, 4))]
        [(2, 1), (2, 5)]
    """
    found = []
    for index, level in enumerate(levels):
        half = (level - 1) * (1 - _MARGIN) / 2
        offset = 0.0 if level % 2 else 0.5
        weight = prod(levels[:index])
        found.append((half, offset, atanh(offset / half), level // 2, weight))
    return found


def not_a_code_map(event_shape: tuple[int, ...], positions: tuple[int, ...], num: int) -> str:
    """What to say of a distribution that is none of the codes at some positions."""
    where = f"at the positions {positions}" if positions else "of one code"
    return (
        f"A prior of codes is a distribution of {prod(positions)} indices {where}, such as "
        f"Categorical({prod(positions)}, {num}), got one of values of shape {tuple(event_shape)}."
    )


def check_encoder(encoder: Any) -> tuple[int, int, int]:
    """The shape of the map that an encoder of images gives; a ValueError where it gives none."""
    shape = getattr(encoder, "out_shape", None)
    if not shape:
        raise ValueError(
            "The encoder must give a map, with an attribute out_shape, such as "
            f"ConvEncoder(image_shape, out_channels=16), got {encoder!r}."
        )
    return check_image_shape("out_shape", shape)


def check_index_prior(prior: Any, quantizer: Any) -> None:
    """Raise a ValueError unless a conditional, if given, gives index maps of the codes of a
    quantizer, without a context.
    """
    if prior is None:
        return
    shape, positions = tuple(prior.event_shape), tuple(quantizer.positions)
    if prod(shape) != prod(positions) or prior.context_shape:
        raise ValueError(
            f"The prior must give {prod(positions)} indices of codes without a context, such as "
            f"Categorical({prod(positions)}, {quantizer.num_codes}), got {prior!r} with values of "
            f"shape {shape} and context_shape={prior.context_shape or 0}."
        )


def check_temperature(temperature: Any, learned: bool) -> Any:
    """A positive temperature, or a schedule of it; a number where it is learned.

    Example:
        >>> check_temperature(0.5, True)
        0.5
    """
    if learned:
        return check_number("temperature", temperature, above=0)
    return check_weight("temperature", temperature, above=0)
