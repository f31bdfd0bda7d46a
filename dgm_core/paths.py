"""Conditionals of sequences: what is decided without a tensor, and the sentences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dgm_core.arguments import check_count, refuse
from dgm_core.contexts import Labels, is_several, parts_of, shown_shape

__all__: list[str] = []


def check_lengths(lengths: Any) -> None:
    """ValueError unless `lengths` is an array of integers.

    Example:
        >>> import numpy as np
        >>> check_lengths(np.array([3.0, 5.0]))
        Traceback (most recent call last):
        ValueError: lengths must be an array of integers of shape (*batch,), got float64 (2,).
    """
    dtype = str(getattr(lengths, "dtype", "")).removeprefix("torch.")
    if "int" not in dtype:
        found = f"{dtype} {tuple(lengths.shape)}." if dtype else f"{lengths!r}."
        raise ValueError(f"lengths must be an array of integers of shape (*batch,), got {found}")


def check_observed(observed: Any, length: int) -> None:
    """ValueError unless `observed` is an array of truth values, one for each step.

    Example:
        >>> import numpy as np
        >>> check_observed(np.array([1, 0]), 2)
        Traceback (most recent call last):
        ValueError: observed must be an array of truth values of shape (*batch, 2), got int64 (2,).
    """
    dtype, shape = str(getattr(observed, "dtype", "")), tuple(getattr(observed, "shape", ()))
    if "bool" not in dtype or shape[-1:] != (length,):
        found = f"{dtype.removeprefix('torch.')} {shape}." if dtype else f"{observed!r}."
        raise ValueError(
            f"observed must be an array of truth values of shape (*batch, {length}), got {found}"
        )


def check_path(found: Any, event_shape: Any) -> None:
    """ValueError unless an array of shape `found` holds whole sequences.

    Example:
        >>> check_path((5, 3, 2), (4, 2))
        Traceback (most recent call last):
        ValueError: A value of this path must have the shape (*batch, 4, 2), got (5, 3, 2).
    """
    if tuple(found)[-len(event_shape) :] != tuple(event_shape):
        shape = ", ".join(map(str, event_shape))
        raise ValueError(
            f"A value of this path must have the shape (*batch, {shape}), got {tuple(found)}."
        )


def by_step_size(context_shape: tuple[Any, ...], length: int, owner: str) -> int:
    """The features of a step that a context has: those of its sequences (length, ...), and of all
    else, which is the same in all steps. ValueError for a context without a sequence.

    Example:
        >>> by_step_size(((5, 3), Labels(10)), 5, "AffineMarkov")
        13
        >>> by_step_size((7,), 5, "AffineMarkov")
        Traceback (most recent call last):
        ValueError: AffineMarkov needs a context_shape with a sequence (5, features), got 7.
    """
    parts = parts_of(context_shape)
    if not any(is_sequence(part, length) for part in parts):
        raise ValueError(
            f"{owner} needs a context_shape with a sequence ({length}, features), got "
            f"{shown_shape(context_shape)}."
        )
    total = 0
    for part in parts:
        size = 1
        for entries in part[1:] if is_sequence(part, length) else part:
            size *= entries
        total += size
    return total


def is_sequence(shape: tuple[int, ...], length: int) -> bool:
    """Whether a context has one entry for each step.

    Example:
        >>> is_sequence((5, 3), 5), is_sequence((5,), 5), is_sequence(Labels(5), 5)
        (True, False, False)
    """
    return not isinstance(shape, Labels) and len(shape) > 1 and shape[0] == length


def shortened(shape: tuple[Any, ...], length: int, fewer: int) -> tuple[Any, ...]:
    """A context shape of sequences of `length` steps, of which only `fewer` are left.

    Example:
        >>> shortened((5, 3), 5, 2), shortened(((5, 3), Labels(5), (7,)), 5, 2), shortened((), 5, 2)
        ((2, 3), ((2, 3), Labels(5), (7,)), ())
    """
    parts = tuple((fewer, *p[1:]) if is_sequence(p, length) else p for p in parts_of(shape))
    return parts if is_several(shape) or not parts else parts[0]


def check_fewer(length: Any, most: int) -> int:
    """The number of steps to which a path is cut; ValueError unless it has so many.

    Example:
        >>> check_fewer(8, 7)
        Traceback (most recent call last):
        ValueError: length must be an integer from 1 to 7, the steps of the path, got 8.
    """
    if check_count("length", length) > most:
        refuse("length", f"an integer from 1 to {most}, the steps of the path", length)
    return length


def steps_given(x: Any, x_shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a sequence of data (batch, steps, x_dim), which may be cut to fewer steps than
    those of the model, x_shape = (T, x_dim).

    Example:
        >>> import numpy as np
        >>> steps_given(np.zeros((9, 4, 3)), (7, 3)), steps_given(None, (7, 3))
        ((4, 3), (7, 3))
    """
    found = tuple(getattr(x, "shape", ()))
    cut = len(found) == 3 and 1 <= found[1] < x_shape[0]
    return (found[1], x_shape[1]) if cut else x_shape


def controls_of(event_shape: tuple[int, ...], context_shape: tuple[Any, ...]) -> tuple[int, ...]:
    """The shape of the control inputs of one step that a transition takes beside the state; ()
    for none. ValueError unless it maps states to states.

    Example:
        >>> controls_of((2,), (2,)), controls_of((2,), ((2,), (3,)))
        ((), (3,))
        >>> controls_of((2,), (3,))
        Traceback (most recent call last):
        ValueError: The transition of a path must take a state of shape (2,) as its context, or ...
    """
    parts = parts_of(context_shape)
    control = parts[1] if len(parts) == 2 else ()
    good = len(event_shape) == 1 and parts[:1] == (event_shape,) and len(parts) <= 2
    if not good or isinstance(parts[0], Labels) or isinstance(control, Labels):
        raise ValueError(
            f"The transition of a path must take a state of shape {event_shape} as its context, or "
            f"it and one array of control inputs: context_shape={event_shape[0]} or "
            f"({event_shape[0]}, (controls,)), and give vectors; got event_shape={event_shape}, "
            f"context_shape={shown_shape(context_shape)} (labels: hand them over one-hot)."
        )
    return control


def check_initial(initial: Any, event_shape: tuple[int, ...], controls: tuple[int, ...]) -> None:
    """ValueError unless a conditional can give the first state."""
    if initial.event_shape != event_shape or initial.context_shape not in ((), controls):
        allowed = f"context_shape=0 or {shown_shape(controls)}" if controls else "context_shape=0"
        raise ValueError(
            f"The initial conditional must give states of shape {event_shape} with {allowed}, got "
            f"{initial!r}."
        )


def stepwise(context_shape: tuple[Any, ...], length: int) -> tuple[Any, ...]:
    """The context of a whole sequence, from that of one step. ValueError for labels.

    Example:
        >>> stepwise((3,), 5), stepwise(((3,), (2, 2)), 5), stepwise((), 5)
        ((5, 3), ((5, 3), (5, 2, 2)), ())
    """
    parts = parts_of(context_shape)
    if any(isinstance(part, Labels) for part in parts):
        refuse(
            "The context of a step",
            "an array, or several (hand labels over one-hot)",
            context_shape,
        )
    shapes = tuple((length, *part) for part in parts)
    return shapes if is_several(context_shape) or not shapes else shapes[0]


NOT_LINEAR = (
    "a linear-Gaussian path, Markov with a transition LinearNormal or Normal and an initial "
    "conditional that is normal"
)
NOT_LINEAR_EMISSION = "LinearNormal or Normal with context_shape={z_dim}, the size of a state"


def num_states_of(emission: Any) -> int:
    """The number of states of a hidden Markov model with this emission."""
    if not isinstance(emission.context_shape, Labels):
        refuse("emission", "a conditional with context_shape=Labels(num_states)", emission)
    return emission.context_shape.num_classes


def check_paired(lengths: Any, number: int) -> None:
    """ValueError unless there is one length for each sequence, or none at all.

    Example:
        >>> import numpy as np
        >>> check_paired(np.array([3, 5]), 3)
        Traceback (most recent call last):
        ValueError: lengths must be one for each of the 3 sequences, of shape (3,), got (2,).
    """
    if lengths is None:
        return
    check_lengths(lengths)
    if tuple(lengths.shape) != (number,):
        raise ValueError(
            f"lengths must be one for each of the {number} sequences, of shape ({number},), got "
            f"{tuple(lengths.shape)}."
        )


def broadcast(batch: Sequence[int], **others: Any) -> tuple[int, ...]:
    """The batch shape of sequences, to which the shape of what each has one of must broadcast; None
    for none.

    Example:
        >>> broadcast((4,), lengths=(4,), observed=None), broadcast((4,), lengths=())
        ((4,), (4,))
        >>> broadcast((4,), lengths=(3,))
        Traceback (most recent call last):
        ValueError: lengths must be one for each of the sequences, of batch shape (4,), got (3,).
    """
    found = tuple(batch)
    for name, shape in others.items():
        try:
            found = np.broadcast_shapes(found, () if shape is None else tuple(shape))
        except ValueError:
            raise ValueError(
                f"{name} must be one for each of the sequences, of batch shape {found}, got "
                f"{tuple(shape)}."
            ) from None
    return found


def num_sequences(lengths: Any, size: int) -> int:
    """How many lengths there are; `size` where there are none."""
    if lengths is None:
        return size
    check_lengths(lengths)
    return len(lengths) if lengths.shape else size


def padded(site: str) -> str:
    """What to say of a latent path with padding where all entries of a value are moved."""
    return (
        f"Site '{site}' is a path of sequences of unequal lengths, whose padding has no density: "
        "give it those of one length at a time, or a path as its guide."
    )
