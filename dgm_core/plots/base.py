"""Figures that belong to nobody else, and what is written of them."""

from __future__ import annotations

import os

import numpy as np
from matplotlib.figure import Figure

from dgm_core.files import path_of, replacing

__all__ = ["check_finite", "new_figure", "save"]


def save(figure: Figure, path: str | os.PathLike[str], *, dpi: int = 120) -> None:
    """Write a figure in the format of the path's suffix (.png, .pdf, .svg); a file in the way is
    replaced whole.
    """
    suffix = path_of(path).suffix.removeprefix(".")
    if suffix not in (known := figure.canvas.get_supported_filetypes()):
        raise ValueError(
            f"A picture's name must end in one of {', '.join(sorted(known))}, got "
            f"{os.fspath(path)!r}."
        )
    with replacing(path) as file:
        figure.savefig(file, format=suffix, dpi=dpi)


def check_finite(name: str, x: np.ndarray) -> None:
    """Raises ValueError for numbers that cannot be drawn."""
    if bad := x.size - np.count_nonzero(np.isfinite(x)):
        raise ValueError(f"{name} must be finite to be drawn, {bad} of {x.size} numbers are not.")


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches."""
    return Figure(figsize=(width, height), layout="constrained")
