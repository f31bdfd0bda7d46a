"""What autoregressive conditionals decide without a tensor: sizes, and what a prefix may be."""

from __future__ import annotations

from math import prod
from typing import Any

from dgm_core.arguments import check_number, check_shape, refuse

__all__ = ["check_blocks", "check_prefix", "check_temperature", "step_shape_of"]


def check_blocks(event_shape: tuple[int, ...], steps: int, size: int, block: int) -> None:
    """ValueError unless the steps make a whole number of blocks and all entries of an event.

    Example:
        >>> check_blocks((3, 4, 4), 16, 3, 4)
    """
    if steps * size != prod(event_shape) or steps % block:
        raise ValueError(
            f"An event of shape {event_shape} cannot be drawn in {steps} steps of {size} entries, "
            f"{block} steps at a time; the steps must make up all entries, in whole blocks."
        )


def check_temperature(temperature: Any) -> float:
    """A temperature above zero, as a float, and one by which single precision can divide.

    Example:
        >>> check_temperature(1)
        1.0
    """
    found = check_number("temperature", temperature, above=0)
    if not 1e-30 <= found <= 1e30:
        refuse("temperature", "a number from 1e-30 (always the most likely) to 1e30", temperature)
    return found


def check_prefix(
    owner: Any, found: tuple[int, ...], event_shape: tuple[int, ...], axis: int, batch: Any
) -> int:
    """How far a prefix of shape `found` reaches along an axis of the event; ValueError where it is
    no beginning of events of this batch.

    Example:
        >>> check_prefix("GatedPixelCNN((1, 8, 8))", (5, 1, 3, 8), (1, 8, 8), 1, (5,))
        3
        >>> check_prefix("WaveNet(9)", (5, 10), (9,), 0, (5,))
        Traceback (most recent call last):
        ValueError: The prefix of WaveNet(9) must have the shape (*batch, n) with n from 0 to 9 \
and a batch that broadcasts to (5,), got (5, 10); it is the beginning of a value, as an \
autoregressive model fills in suffixes only.
    """
    split = max(0, len(found) - len(event_shape))
    leading, event = found[:split], found[split:]
    fits = len(event) == len(event_shape) and all(
        size <= whole if place == axis else size == whole
        for place, (size, whole) in enumerate(zip(event, event_shape))
    )
    same = zip(leading[::-1], tuple(batch)[::-1])
    if not fits or len(leading) > len(batch) or any(one not in (1, all_) for one, all_ in same):
        shape = ", ".join("n" if i == axis else str(n) for i, n in enumerate(event_shape))
        raise ValueError(
            f"The prefix of {owner} must have the shape (*batch, {shape}) with n from 0 to "
            f"{event_shape[axis]} and a batch that broadcasts to {tuple(batch)}, got {found}; "
            "it is the beginning of a value, as an autoregressive model fills in suffixes only."
        )
    return event[axis]


def check_uniforms(owner: Any, found: Any, wanted: tuple[int, ...]) -> None:
    """Raise a ValueError unless an array of shape `found` holds uniform numbers (*batch, *wanted),
    which are steps, entries of a step, and numbers for each.

    Example:
        >>> check_uniforms("WaveNet(9)", (5, 9, 1, 2), (9, 1, 2))
        >>> check_uniforms("WaveNet(9)", (5, 9), (9, 1, 2))
        Traceback (most recent call last):
        ValueError: WaveNet(9) is drawn from uniform numbers of shape (*batch, 9, 1, 2), got (5, 9).
    """
    if tuple(found[-3:]) != wanted:
        shape = ", ".join(map(str, wanted))
        raise ValueError(
            f"{owner} is drawn from uniform numbers of shape (*batch, {shape}), got {tuple(found)}."
        )


def not_uniform(owner: Any) -> ValueError:
    """What to say of numbers that are not uniform ones."""
    return ValueError(f"{owner} is drawn from uniform numbers in [0, 1], got others.")


def not_a_number(owner: Any) -> ValueError:
    """What to say of data that are NaN."""
    return ValueError(
        f"{owner} scores data that are numbers, got some that are NaN: fill them in, or leave "
        "these data out."
    )


def outside(owner: Any, what: str) -> ValueError:
    """What to say of a value, or the prefix of one, that no draw can be."""
    return ValueError(f"The {what} of {owner} has values outside its support.")


def not_mapped(owner: Any) -> NotImplementedError:
    """What to say where torch.func.vmap asks for draws."""
    return NotImplementedError(
        f"Draws of {owner} come step by step from caches, which torch.func.vmap cannot map: draw "
        "many at once, by sample((n,)) or with contexts of shape (n, ...)."
    )


def step_shape_of(dim: Any) -> tuple[tuple[int, ...], int]:
    """The steps of a value, (T,) or (height, width), and the entries of one.

    Example:
        >>> step_shape_of(5), step_shape_of((5, 2)), step_shape_of((3, 8, 4))
        (((5,), 1), ((5,), 2), ((8, 4), 3))
    """
    shape = check_shape("dim", dim)
    if len(shape) > 3:
        raise ValueError(
            "dim must be (T,), (T, D) or (channels, height, width) of a value that is drawn step "
            f"by step, got {shape}."
        )
    if len(shape) == 3:
        return shape[1:], shape[0]
    return shape[:1], shape[1] if len(shape) == 2 else 1
