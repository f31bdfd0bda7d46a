"""What a forecast asks of a model and of its arguments, and the sentences."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from dgm_core.paths import check_paired

__all__: list[str] = []  # for the package, not for users


def place_of(name: str, model: Callable, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Where an argument of the model stands: its number, or its name.

    Example:
        >>> place_of("lengths", lambda x, lengths=None: None, (1, 2), {})
        1
    """
    parameters = list(inspect.signature(model).parameters)
    place = parameters.index(name) if name in parameters else len(args)
    if name not in kwargs and place >= len(args):
        raise ValueError(
            "A forecast continues each sequence at its own end: the data must hold the model's "
            f"argument {name!r} (or another one: lengths=...), the model takes "
            f"{', '.join(parameters)}, got {len(args) + len(kwargs)} of these."
        )
    return name if name in kwargs else place


def replaced(
    args: Sequence[Any], kwargs: Mapping[str, Any], place: Any, value: Any
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments, with another value at a place.

    Example:
        >>> replaced((1, 2), {}, 1, 5)
        ((1, 5), {})
    """
    if isinstance(place, str):
        return tuple(args), {**kwargs, place: value}
    return (*args[:place], value, *args[place + 1 :]), dict(kwargs)


def num_steps(arrays: Sequence[Any], lengths: Any) -> int:
    """The steps T of padded sequences (num_data, T, ...), the first among some arrays. ValueError
    where there is none, and for lengths that are not one for each.
    """
    found = [np.shape(x) for x in arrays if np.ndim(x) > 1]
    if not found:
        raise ValueError("The data of a forecast must hold sequences of shape (num_data, T, ...).")
    check_paired(lengths, found[0][0])
    return found[0][1]


def check_continued(name: str, fn: Any, batch_shape: Sequence[int], num_rows: int) -> None:
    """ValueError unless a site is a path of each datum that can be continued."""
    if not hasattr(fn, "continued"):
        raise ValueError(
            f"Site '{name}' has a value in every step, but its {type(fn).__name__} cannot be "
            "continued behind a prefix: give it Markov, AffineMarkov, Steps, LinearGaussian or "
            "HiddenMarkov, or write the model with unroll."
        )
    if tuple(batch_shape) != (num_rows,):
        raise ValueError(
            f"Site '{name}' must be one path for each of the {num_rows} sequences, got batch shape "
            f"{tuple(batch_shape)}."
        )


def check_any(names: Sequence[str]) -> None:
    """ValueError where nothing was continued."""
    if not names:
        raise ValueError(
            "The model has no path to forecast: no site whose value is a whole sequence, such as "
            "Steps or Markov (a site for each step is not continued)."
        )


def is_by_step(shape: Sequence[int], event_dim: int, length: int) -> bool:
    """Whether a value (*batch, *event) has an entry for each step.

    Example:
        >>> is_by_step((20, 5, 2), 2, 5), is_by_step((20, 2), 1, 5), is_by_step((20,), 0, 20)
        (True, False, False)
    """
    return event_dim > 0 and shape[len(shape) - event_dim] == length
