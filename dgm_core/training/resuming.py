"""Whether a checkpoint belongs to the run that is to go on from it."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dgm_core.files import claimed
from dgm_core.training import checkpoint
from dgm_core.training.checkpoint import CheckpointError
from dgm_core.training.identity import Special, describe, difference, unchecked

# With other values of these a run goes on in the same numbers.
_FREE = (
    "num_epochs", "num_steps", "patience", "callbacks", "checkpoint", "resume",
    "checkpoint_every", "progress", "device",
)  # fmt: skip
_SHOWN = 3


@contextmanager
def held(folder: Path | None) -> Iterator[None]:
    """A block in which no other run writes to the folder, if there is one.

    Raises:
        CheckpointError: where another one does.
    """
    if folder is None:
        yield
        return
    with claimed(folder) as free:
        if not free:
            raise CheckpointError(
                f"Another run writes to {folder}: wait until it ends, or give each run a folder "
                "of its own."
            )
        yield


def record(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `fit` for the eye, as JSON: arrays by type and shape."""
    config = {name: x for name, x in arguments.items() if name not in ("model", "guide")}
    batches = {name: f"{len(x)} batches" for name, x in config.items() if _is_stream(name, x)}
    return {name: _readable(x) for name, x in (config | batches).items()}


def _is_stream(name: str, value: Any) -> bool:
    return name in ("data", "validation") and isinstance(value, list)


def identity(arguments: Mapping[str, Any], special: Special) -> dict[str, Any]:
    """What decides the numbers of a run: with something else it cannot go on."""
    return describe({name: x for name, x in arguments.items() if name not in _FREE}, special)


def save(folder: Path, arrays: Mapping[str, Any], header: Mapping[str, Any]) -> None:
    """Write `<folder>/last.npz`.

    Raises:
        CheckpointError: when it cannot be written, or the state cannot be held in a file.
    """
    try:
        checkpoint.save(folder / "last.npz", arrays, header)
    except (TypeError, ValueError) as error:
        raise unsuited(folder, error) from error


def unsuited(folder: Path, error: Exception) -> CheckpointError:
    """The error for a state that no file can hold."""
    return CheckpointError(
        f"The state of this run cannot be saved to {folder} ({error}): leave out checkpoint= or "
        "take another optimizer."
    )


def load(folder: Path, identity: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """The arrays and the header of `<folder>/last.npz`; None where there is no checkpoint.

    Raises:
        CheckpointError: if it cannot be read, or belongs to a run with other arguments.
    """
    path = folder / "last.npz"
    if not checkpoint.exists(path):
        return None
    arrays, header = checkpoint.load(path)
    if "identity" not in header:
        raise CheckpointError(
            f"{path} does not say which run it belongs to: it was not written by this version of "
            "fit. Choose another folder, or start afresh with resume=False."
        )
    if changed := difference(header["identity"], identity):
        more = len(changed) - _SHOWN
        rest = f"; and {more} more" if more > 0 else ""
        raise CheckpointError(
            f"{path} belongs to a run with other arguments: {'; '.join(changed[:_SHOWN])}{rest}. "
            "Call fit with the same ones, choose another folder, or start afresh with "
            "resume=False."
        )
    if places := unchecked(identity):
        warnings.warn(
            f"The run in {folder} goes on without a comparison of what cannot be looked into: "
            f"{', '.join(places)}. It must be as it was.",
            UserWarning,
            stacklevel=5,
        )
    return arrays, header


def contents(array: Any) -> str:
    """Type, shape and hash of an array."""
    return str(describe(array))


def _readable(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): _readable(item) for key, item in value.items()}
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"{value.dtype} {tuple(value.shape)}".removeprefix("torch.")
    if isinstance(value, tuple | list):
        return [_readable(item) for item in value]
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))


def fitting(there: Mapping[str, Any], here: Mapping[str, Any], form: Callable[[Any], str]) -> None:
    """Raises CheckpointError unless the saved tensors have the names and forms of those here."""
    saved, wanted = ({name: form(x) for name, x in tree.items()} for tree in (there, here))
    if changed := difference(saved, wanted):
        raise CheckpointError(
            f"The checkpoint holds another state: {'; '.join(changed[:_SHOWN])}. Start afresh "
            "with resume=False."
        )
