"""Where a benchmark runs, how long it may, and where its results go."""

import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def results(name: str) -> Path:
    """The folder of a benchmark's results, in OUT_DIR where that is set."""
    folder = Path(os.environ.get("OUT_DIR") or Path(__file__).parent / "results") / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def hardware(backend: str) -> str:
    """The machine in words: its accelerator, or its cores."""
    if backend == "numpyro":
        import jax

        device = jax.devices()[0]
        if device.platform != "cpu":
            return f"one {device.device_kind}"
    else:
        import torch

        if torch.get_default_device().type == "cuda":
            return f"one {torch.cuda.get_device_name()}"
    return f"{os.cpu_count()} CPU cores, {platform.machine()}"


class Deadline:
    """A time at which all training of a process stops; None is never."""

    def __init__(self, seconds: float | None) -> None:
        self.end = None if seconds is None else time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds until then."""
        return float("inf") if self.end is None else self.end - time.monotonic()

    def share(self, parts: int) -> Callable[[Any], bool]:
        """A callback of `fit` that stops it after its part of what is left."""
        end = time.monotonic() + self.left / parts
        return lambda run: time.monotonic() > end
