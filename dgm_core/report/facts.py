"""What a report asks of a backend: what one run of guide and model shows, and the functions that
evaluate a run.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np

from dgm_core.structure import Structure

__all__ = ["Facts", "Observed", "Tools", "drawn_graph", "support_name"]


class Tools(NamedTuple):
    """The functions of a backend, called as tool(run, *data, ...), that parts of a report are made
    of; terms gives {name: (num_draws,)} of a loss, graph the bytes of a PNG.
    """

    log_weights: Callable[..., np.ndarray]
    latents: Callable[..., Mapping[str, np.ndarray]]
    reconstruct: Callable[..., Mapping[str, np.ndarray]]
    generate: Callable[..., Mapping[str, np.ndarray]]
    elbo_surgery: Callable[..., Any]
    to_arviz: Callable[..., Any]
    terms: Callable[..., Mapping[str, np.ndarray]]
    graph: Callable[..., bytes]
    libraries: Sequence[str]


class Observed(NamedTuple):
    """The values of an observed site, (*batch, *event), and the number of its event dimensions."""

    values: np.ndarray
    event_dim: int

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of one value."""
        return self.values.shape[self.values.ndim - self.event_dim :]

    def points(self, values: np.ndarray) -> np.ndarray:
        """Values of this site as points, (num, entries)."""
        return np.asarray(values, np.float64).reshape(-1, max(1, math.prod(self.event_shape)))


@dataclass(frozen=True)
class Facts:
    """What one run of guide and model on the data shows.

    Args:
        structure: what factorizes.
        sites: of the model, a row each: site, kind, distribution, guide, shape, plates, support.
        observed: the observed sites.
        parameters: "model", "guide" -> {parameter: how many numbers}; those of both have one name.
        num_rows: of the data; None where no argument is an array.
        rows: their numbers in the data of the fit, where something depends on them.
    """

    structure: Structure
    sites: list[dict[str, Any]]
    observed: dict[str, Observed]
    parameters: dict[str, dict[Any, int]]
    num_rows: int | None
    rows: np.ndarray | None

    @property
    def divisible(self) -> bool:
        """Whether a part of the data can be evaluated by itself: one plate is around all there is,
        and nothing lies deeper."""
        structure = self.structure
        alone = structure.factorizes and structure.batch_ndim == 1
        return alone and structure.sizes == (self.num_rows,)


def site_row(
    name: str,
    kind: str,
    shape: Sequence[int],
    frames: Sequence[Any],
    fn: Any = None,
    guide: Any = None,
) -> dict[str, Any]:
    """A row of the table of sites.

    Args:
        name, kind: of the site.
        shape: of its value.
        frames: the plates around it.
        fn, guide: its distributions in the model and in the guide.
    """
    known = fn if kind in ("latent", "observed") else None
    return {
        "site": name,
        "kind": kind,
        "distribution": "" if known is None else _base_name(known),
        "guide": "" if guide is None else _base_name(guide),
        "shape": str(tuple(int(n) for n in shape)),
        "plates": ", ".join(f"{frame.name} ({frame.size})" for frame in frames),
        "support": "" if known is None else support_name(getattr(known, "support", None)),
    }


def support_name(constraint: Any) -> str:
    """A support in words.

    Example:
        >>> class _IntegerInterval: ...
        >>> support_name(_IntegerInterval())
        'integer interval'
    """
    if constraint is None:
        return ""
    while (base := getattr(constraint, "base_constraint", None)) is not None:
        constraint = base
    name = type(constraint).__name__.strip("_")
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()


def drawn_graph(render: Callable[[], Any]) -> bytes:
    """The picture of a model by graphviz, as PNG.

    Raises:
        ValueError: where the package graphviz, or its program dot, is not installed.
    """
    if find_spec("graphviz") is None:
        raise ValueError("the package graphviz is not installed.")
    try:
        return render().pipe(format="png")
    except Exception as error:
        if type(error).__name__ == "ExecutableNotFound":
            raise ValueError("graphviz is there, but its program dot is not.") from error
        raise


def _base_name(fn: Any) -> str:
    """The distribution, without what its batch shape, events and masks are made by."""
    wrappers = ("Independent", "ExpandedDistribution", "MaskedDistribution")
    while type(fn).__name__ in wrappers and hasattr(fn, "base_dist"):
        fn = fn.base_dist
    return type(fn).__name__.lstrip("_")
