"""Sequences written as one step: what is decided without a tensor, and the sentences."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

from dgm_core.arguments import refuse, shown

__all__: list[str] = []

IMPUTE = ("draw", "mean")


@dataclass(frozen=True)
class Statement:
    """A sample statement of a step, found by running it once.

    name;  batch_shape, event_shape, support, reparameterized, of its distribution;  leaf: the
    number of the array of x that it observes, None where it is latent;  infer: as it was given.
    """

    name: str
    batch_shape: tuple[int, ...]
    event_shape: tuple[int, ...]
    support: Any
    reparameterized: bool
    leaf: int | None
    infer: dict[str, Any] = field(default_factory=dict)


def inside_a_step(what: str) -> ValueError:
    """The error for a statement that a step may not contain.

    Example:
        >>> str(inside_a_step("a plate"))[:55]
        'A step must contain sample statements alone, got a plat'
    """
    return ValueError(
        f"A step must contain sample statements alone, got {what}: write plates, parameters, "
        "scales, masks and factors around unroll, register networks before it, and declare the "
        "event dimensions of a statement with .to_event(...)."
    )


def keeps_in_a_step(module: Any) -> ValueError:
    """The error for a network in a step that moves with every batch."""
    return ValueError(
        f"A step must not train what moves with every batch, got {type(module).__name__}: "
        "sequences that have ended would count, and each step would move it. Normalize data and "
        "inputs before unroll, or take a normalization over features, such as LayerNorm."
    )


def check_new(name: str, known: Any) -> None:
    """ValueError for a second statement of one name."""
    if name in known:
        raise ValueError(f"A step must give each statement a name of its own, got '{name}' twice.")


def check_same_statements(expected: Sequence[str], found: Sequence[str]) -> None:
    """ValueError unless all steps have the same statements.

    Example:
        >>> check_same_statements(["z", "x"], ["x"])
        Traceback (most recent call last):
        ValueError: A step must have the same statements at all times, got ['x'] after ['z', 'x'].
    """
    if list(expected) != list(found):
        raise ValueError(
            f"A step must have the same statements at all times, got {list(found)} after "
            f"{list(expected)}."
        )


def unknown_data(name: str) -> ValueError:
    """The error for a statement that observes something else than x_t."""
    return ValueError(
        f"Statement '{name}' of a step must observe x_t or an array of it as it came, got another "
        "array: hand the data to unroll as they are observed (x may be a tuple or a dict)."
    )


def check_sequences(name: str, shape: tuple[int, ...], event_dim: int, length: int | None) -> int:
    """The number of steps of an array (*batch, length, *event). ValueError where that cannot be.

    Example:
        >>> check_sequences("x", (5, 7, 3), 1, None)
        7
        >>> check_sequences("inputs", (5, 6, 3), 1, 7)
        Traceback (most recent call last):
        ValueError: inputs must have shape (*batch, 7, features), got (5, 6, 3).
    """
    found = shape[-1 - event_dim] if len(shape) > event_dim else 0
    if found < 1 or length not in (None, found):
        steps = "length" if length is None else length
        wanted = ("", ", features")[event_dim] if event_dim < 2 else f", {event_dim} event dims"
        comma = "," if not wanted else ""
        raise ValueError(f"{name} must have shape (*batch, {steps}{wanted}{comma}), got {shape}.")
    return found


def check_state(before: Sequence[Any], after: Sequence[Any], event_dim: int) -> None:
    """ValueError unless a step gives a state of the form that it was given: as many arrays, of the
    same event shapes and dtypes, each a pair (shape, dtype).

    Example:
        >>> check_state([((2, 8), "float32")], [((5, 2, 8), "float32")], 1)
        >>> check_state([((8,), "float32")], [((5, 9), "float32")], 1)
        Traceback (most recent call last):
        ValueError: A step must return a state of the form that it was given, ((8,), 'float32'), ...
    """
    forms = [
        tuple((shape[len(shape) - event_dim :], dtype) for shape, dtype in x)
        for x in (before, after)
    ]
    short = any(len(shape) < event_dim for shape, _ in (*before, *after))
    if short or forms[0] != forms[1]:
        raise ValueError(
            f"A step must return a state of the form that it was given, {_forms(before)}, with "
            f"{event_dim} event dimensions (event_dim) in each array, got {_forms(after)}."
        )


def _forms(parts: Sequence[Any]) -> str:
    return ", ".join(f"({shape}, {dtype!r})" for shape, dtype in parts) or "nothing"


def check_length(length: int | None) -> int:
    """The number of steps; ValueError where nothing says it."""
    if length is None:
        raise ValueError("length must be given where neither x nor inputs are, got None.")
    return length


def check_impute(missing: bool, statements: Sequence[Statement], impute: str | None) -> None:
    """ValueError where nobody has said what stands for missing steps that have no gradient."""
    if not missing or impute is not None:
        return
    for statement in statements:
        if statement.leaf is not None and not statement.reparameterized:
            raise ValueError(
                f"Steps of '{statement.name}' are missing, and no gradient passes through draws "
                "of it: say impute='mean' (later steps see its mean), or impute='draw' (they see "
                "a draw; without the gradient that passes through it)."
            )


def not_unrolled(names: Sequence[str], owner: str) -> ValueError:
    """The error for statements that do not belong to the steps."""
    return ValueError(
        f"Resampling takes programs whose sample statements are those of one unroll, but the "
        f"{owner} also has {list(names)}: move them into the step, or use ELBO or IWAE."
    )


def masked(owner: str) -> ValueError:
    """The error for a mask around the steps."""
    return ValueError(
        f"Resampling takes sequences as they are, but the {owner} has a mask around unroll: give "
        "unroll the lengths of the sequences, or the steps that are observed."
    )


def check_same_scale(scales: Iterable[Any], data_scale: float) -> None:
    """ValueError unless all statements count as often as their data, N / B."""
    for scale in scales:
        one = 1.0 if scale is None else scale
        if not (isinstance(one, Real) and math.isclose(one, data_scale)):
            raise ValueError(
                "Resampling takes weights p(x, z) / q(z | x), which a scale around unroll changes "
                f"that is not that of the data, {data_scale:g}: leave it out, or use ELBO or IWAE."
            )


def not_a_sequence(owner: str, number: int) -> ValueError:
    """The error for a program without unroll, or with several."""
    return ValueError(
        f"Resampling takes programs that call unroll once, but the {owner} calls it {number} times."
    )


def check_same_length(ours: int, theirs: int) -> None:
    """ValueError unless model and guide have as many steps."""
    if ours != theirs:
        raise ValueError(f"Model and guide must have as many steps, got {ours} and {theirs}.")


def no_state() -> ValueError:
    """The error for steps that hand nothing on."""
    return ValueError(
        "Resampling chooses among states, but these steps have none: use ELBO or IWAE."
    )


def check_step(step: Any) -> None:
    """ValueError unless step can be called."""
    if not callable(step):
        refuse("step", "a function of (state, inputs, x_t) that returns a state", step)


def too_early(name: str) -> ValueError:
    """The error for a density that was asked for while the steps are being settled."""
    return ValueError(
        f"Site '{name}' of unroll has a density once all sites of its steps are known; ask after "
        "unroll has returned."
    )


def no_mean(name: str, error: Exception) -> ValueError:
    """The error for a step without a mean."""
    why = f" ({shown(str(error))})" if str(error) else ""
    return ValueError(f"The steps of '{name}' have no mean{why}.")
