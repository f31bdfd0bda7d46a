"""What the arguments of `fit` may be, as far as that can be said without running anything."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from dgm_core.arguments import (
    check_callable,
    check_count,
    check_flag,
    check_instance,
    check_number,
    check_seed,
    check_weight,
    refuse,
    shown,
)
from dgm_core.schedules import Schedule, value_of
from dgm_core.training.batches import is_in_memory

__all__ = [
    "check_arguments",
    "check_callbacks",
    "check_rates",
    "check_schedules",
    "check_validation",
]


def check_arguments(arguments: Mapping[str, Any], loss: type) -> None:
    """Raises ValueError for an argument of `fit` out of its range; `loss` is the class
    of losses.
    """
    for name in ("model", "guide"):
        if not callable(arguments[name]) or isinstance(arguments[name], type):
            raise TypeError(f"{name} must be callable, got {shown(arguments[name])}.")
    for name in ("loss", "validation_loss"):
        check_instance(name, arguments[name], loss, "a loss such as ELBO()")
    if arguments["num_epochs"] is not None and arguments["num_steps"] is not None:
        raise ValueError(
            "The length of a run is num_epochs or num_steps, not both, got "
            f"{shown(arguments['num_epochs'])} and {shown(arguments['num_steps'])}."
        )
    check_count("checkpoint_every", arguments["checkpoint_every"])
    for name in ("num_epochs", "num_steps", "batch_size", "patience"):
        if arguments[name] is not None:
            check_count(name, arguments[name])
    for name in ("drop_last", "resume", "progress"):
        check_flag(name, arguments[name])
    check_seed("seed", arguments["seed"])
    if arguments["patience"] is not None and arguments["validation"] is None:
        raise ValueError(
            "patience counts epochs without a better validation score: pass validation data as "
            "well."
        )
    if arguments["checkpoint_every"] != 1 and arguments["checkpoint"] is None:
        raise ValueError(
            "checkpoint_every counts epochs between checkpoints: pass checkpoint, a folder, as "
            "well."
        )
    if arguments["drop_last"] and not is_in_memory(arguments["data"]):
        raise ValueError(
            "drop_last is for arrays; an iterable gives its own batches, so leave it out."
        )
    if arguments["clip_norm"] is not None:
        check_number("clip_norm", arguments["clip_norm"], above=0)
    if arguments["average"] is not None:
        check_number("average", arguments["average"], above=0, below=1)
    if arguments["lr_schedule"] is not None:
        what = "a schedule, or another function of the step that gives a number"
        check_callable("lr_schedule", arguments["lr_schedule"], what)
        check_weight("lr_schedule", arguments["lr_schedule"], least=0)
    if arguments["transform"] is not None:
        check_callable("transform", arguments["transform"], "a function of a batch")
    for callback in arguments["callbacks"]:
        check_callable("callbacks", callback, "functions that take the run")
    if not (isinstance(arguments["compile"], bool) or arguments["compile"] == "auto"):
        refuse("compile", 'True, False or "auto"', arguments["compile"])
    if arguments["batch_size"] is not None and not is_in_memory(arguments["data"]):
        raise ValueError(
            "batch_size is for arrays; an iterable gives its own batches, so leave it out."
        )


def check_validation(validation: Any, validation_loss: Any) -> None:
    """Raises ValueError for a validation loss without data.

    Example:
        >>> check_validation(np.ones((9, 2)), None)
    """
    if validation_loss is not None and validation is None:
        raise ValueError("validation_loss scores validation data: pass validation as well.")


def check_callbacks(callbacks: Any) -> tuple[Callable, ...]:
    """The callbacks, from a sequence of functions.

    Example:
        >>> check_callbacks([print])
        (<built-in function print>,)
    """
    if (
        callable(callbacks)
        or isinstance(callbacks, (str, bytes))
        or not hasattr(callbacks, "__iter__")
    ):
        example = getattr(callbacks, "__name__", "callback")
        refuse(
            "callbacks", f"a sequence of functions that take the run such as [{example}]", callbacks
        )
    return tuple(callbacks)


def check_rates(schedule: Callable[[Any], Any], last: int) -> None:
    """Raises ValueError where a schedule of learning rates gives a negative number, or none.

    It is asked at sixteen steps from 0 to `last`; what is not finite is found in its step.
    """
    for step in _some_steps(last):
        rate = schedule(step)
        if getattr(rate, "shape", ()) != () or isinstance(rate, str) or rate is None or rate < 0:
            refuse(f"lr_schedule({step})", "a number of at least 0", rate)


def check_schedules(
    schedules: Iterable[tuple[str, Callable[[Any], Any], float]],
    last: int,
    as_step: Callable[[int], Any],
) -> None:
    """Raises ValueError where a weight of a loss that is a function of the step gives no number, or
    one that is too small; what is not finite is found in its step.

    Args:
        schedules: as `WeightedSum.schedules` gives them.
        last: they are asked at sixteen steps from 0 to this one.
        as_step: what they are called with.
    """
    for words, weight, least in schedules:
        for step in () if isinstance(weight, Schedule) else _some_steps(last):
            if (value := value_of(weight, as_step(step))) < least:
                refuse(f"{words} at step {step}", f"a number of at least {least:g}", float(value))


def _some_steps(last: int) -> list[int]:
    return sorted({int(step) for step in np.linspace(0, last, 16)})
