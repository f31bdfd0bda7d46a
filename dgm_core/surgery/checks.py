"""What surgery asks of a model and a guide, and the sentences where it does not get it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from dgm_core.arguments import refuse
from dgm_core.structure import Structure

__all__ = [
    "check_labels",
    "check_local",
    "check_one_prior",
    "check_runs",
    "check_unweighted",
    "missing_entries",
    "moved_parts",
    "same_densities",
]


_LOOKS = 64  # data that are looked at, the same again where there are fewer


def check_local(structure: Structure) -> None:
    """Raises ValueError unless all latents lie in one plate, the only batch dimension, and are the
    model's."""
    if beyond := list(structure.reverse_sites):
        raise ValueError(
            f"elbo_surgery needs the density of the model's latents, but the guide draws {beyond} "
            "beyond them, and q(z | x) is an integral over these: take a guide that does not."
        )
    if structure.global_sites or len(structure.sizes) != 1 or structure.batch_ndim != 1:
        raise ValueError(
            "elbo_surgery needs all latents inside one plate of the data, the only batch "
            f"dimension, got {list(structure.global_sites)} outside and {structure.batch_ndim} "
            "batch dimensions."
        )
    if not structure.local_sites:
        raise ValueError("elbo_surgery takes the KL of latents apart, but the model has none.")


def check_unweighted(what: str, found: np.ndarray, own: np.ndarray) -> None:
    """Raises ValueError where the log-density of latents is not that of their distributions: under
    a scale, a mask, or a factor of the guide."""
    if not (np.isfinite(found).all() and np.isfinite(own).all()):
        raise ValueError(
            f"The log-densities of the latents in the {what} must be finite at the guide's draws, "
            f"got {int((~np.isfinite(own)).sum())} of {own.size} that are not."
        )
    if not same_densities(found, own):
        raise ValueError(
            f"A scale, a mask or a factor changes the log-density of the latents in the {what}: "
            "the KL would not be that of two distributions. Take it away for elbo_surgery."
        )


def check_one_prior(rolled: np.ndarray, log_p: np.ndarray) -> None:
    """Raises ValueError for a prior that differs between data.

    Args:
        rolled: log p of the draws of the datum before, (num_data,);  log_p: of their own.
    """
    if not same_densities(rolled, np.roll(log_p, 1)):
        raise ValueError(
            "The prior of the latents differs from datum to datum (it reads labels or other "
            "data), and the aggregate posterior has no single prior to be compared with: "
            "elbo_surgery needs one p(z) for all data."
        )


def moved_parts(shapes: Mapping[str, tuple[int, ...]]) -> Iterator[dict[str, np.ndarray]]:
    """Which parts of the draws take other values, to see which sites follow from others: once all,
    and then half of them, since what follows from several may stay as it is when all move.

    Args:
        shapes: (num_data, ...) of what moves by itself, by site.

    Example:
        >>> [int(moved["z"].sum()) for moved in moved_parts({"z": (64, 2)})]
        [128, 58]
    """
    rng, num_data = np.random.default_rng(0), next(iter(shapes.values()))[0]
    yield {name: np.ones(shape, bool) for name, shape in shapes.items()}
    for _ in range(-(-_LOOKS // num_data)):
        yield {name: rng.random(shape) < 0.5 for name, shape in shapes.items()}


def missing_entries(guide: tuple[str, ...], prior: tuple[str, ...]) -> tuple[str, ...]:
    """Why there is no total correlation, or no dimension-wise KL.

    Args:
        guide, prior: the sites whose entries are not independent, given x or altogether.

    Example:
        >>> missing_entries((), ("z",))[0][:31]
        'No dimension-wise KL: the prior'
    """
    if guide:
        return (
            "No total correlation and no dimension-wise KL: the guide's entries of "
            f"{list(guide)} are not independent given x (or not known to be), and the density of "
            "one of them is an integral over the others.",
        )
    if prior:
        return (
            f"No dimension-wise KL: the prior's entries of {list(prior)} are not independent (or "
            "not known to be), and the density of one of them is an integral over the others.",
        )
    return ()


def check_runs(runs: Any) -> Mapping[Any, Any]:
    """The runs by their labels. Raises ValueError for what is no dict of one or more.

    Example:
        >>> check_runs({1.0: "a run"})
        {1.0: 'a run'}
    """
    if not isinstance(runs, Mapping) or not runs:
        refuse("runs", "a dict of one run or more, by label", runs)
    check_labels("runs", runs)
    return runs


def check_labels(name: str, labels: Iterable[Any]) -> None:
    """Raises ValueError for a label that is NaN, which names nothing."""
    if any(label != label for label in labels):
        raise ValueError(f"{name} must have labels that tell the runs apart, got NaN for one.")


def same_densities(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether log-densities are the same up to rounding in their precision.

    Example:
        >>> same_densities(np.array([-1.0]), np.array([-1.0 - 1e-14]))
        True
    """
    rounding = 1e4 * float(np.finfo(np.result_type(a, b, np.float32)).eps)
    return bool(np.allclose(a, b, rtol=rounding, atol=rounding))
