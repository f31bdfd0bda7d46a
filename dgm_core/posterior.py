"""Flat values of all latents of a model: which entries are whose, and what cannot be flattened."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from types import SimpleNamespace
from typing import Any

from dgm_core.arguments import refuse
from dgm_core.evaluation import check_run
from dgm_core.guides import plain

__all__ = [
    "Layout",
    "in_scan",
    "noiseless",
    "partial_plate",
    "run_of",
    "unguided_sites",
    "unplaced",
    "weighted",
]


class Layout:
    """Which entries of a flat vector belong to which site.

    Attributes:
        size: the number of entries.

    Example:
        >>> layout = Layout()
        >>> layout.add("mu", ()), layout.add("z", (2, 3))
        (None, None)
        >>> layout.size, layout.slice("z", (2, 3))
        (7, slice(1, 7, None))
    """

    def __init__(self) -> None:
        self._places: dict[str, tuple[int, tuple[int, ...]]] = {}
        self.size = 0

    def add(self, name: str, shape: tuple[int, ...]) -> None:
        """The entries of one more site."""
        self._places[name] = self.size, shape
        self.size += prod(shape)

    def slice(self, name: str, shape: tuple[int, ...]) -> slice:
        """The entries of a site. Raises ValueError where it was not there, or of another shape."""
        start, known = self._places.get(name, (0, None))
        if known != shape:
            raise ValueError(
                f"Site '{name}' has {shape} entries on the real line and had {known} before: the "
                "latents of a posterior must be the same, of the same shapes, at all their values."
            )
        return slice(start, start + prod(shape))

    def checked_size(self) -> int:
        """The number of entries. Raises ValueError where there are none."""
        if not self.size:
            raise ValueError("There is nothing to sample: no latent site has a density.")
        return self.size


def partial_plate(plate: str, site: str) -> str:
    """What to say of a plate that holds a part of its data."""
    return (
        f"Plate '{plate}' (at site '{site}') holds a part of its data, but a posterior is that of "
        "all of them: pass all data, and let the plate take as many as there are."
    )


def unplaced(site: str, support: str) -> str:
    """What to say of a latent whose support is not mapped to the real line."""
    return (
        f"Site '{site}' has the support {support}, which is not mapped to the real line, so its "
        "posterior has no gradient: sum a discrete latent out in the model."
    )


def in_scan(site: str) -> str:
    """What to say of a latent inside a scan."""
    return (
        f"Site '{site}' is drawn inside a scan, whose steps cannot be given flat values: write the "
        "steps as a Python loop, or draw their noise in a plate before the scan."
    )


def noiseless(site: str, distribution: str) -> str:
    """What to say of a guide's site that is not made from normal noise."""
    return (
        f"The guide draws site '{site}' from {distribution}, which is not normal noise under known "
        "maps, so that it is no transport map: sample from another start (start=run)."
    )


def unguided_sites(names: Sequence[str]) -> str:
    """What to say of latents that a guide does not draw."""
    return f"The guide does not draw the latent sites {list(names)} of the model."


def run_of(model: Any) -> Any:
    """A run as it is, and a model as one with the weights that it has.

    Raises:
        ValueError: for what is neither.
    """
    if hasattr(model, "guide") and not isinstance(model, type):
        return model
    if not callable(model) or isinstance(model, type):
        refuse("model", "callable, or a run", model)
    return SimpleNamespace(model=model, guide=model)


def weighted(model: Any, start: Any, through: Any) -> Any:
    """The run whose weights and guide are used: of the model given, or that of its guide.

    Raises:
        ValueError: for two runs at once, for what is no run or no model, and for the run of
            another model.
    """
    run = run_of(model)
    if start is not None and through is not None:
        raise ValueError("Pass start=run or through=run, not both: through starts there as well.")
    guided = through if start is None else start
    if guided is None:
        return run
    check_run(guided)
    if plain(run.model) != plain(guided.model):
        raise ValueError("The run of start= or through= must be that of a guide of this model.")
    return guided
