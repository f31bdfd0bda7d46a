"""Where chains start, and what is refused before they do."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from dgm_core.annealing.passes import Plan
from dgm_core.annealing.schedules import SCHEDULES, inverse_temperatures
from dgm_core.arguments import check_choice, check_count, check_number, check_seed, refuse

__all__: list[str] = []  # for the package, not for users

CHAINS = "chains"  # reverse chains start where forward ones have come to


def checked_plan(
    *,
    schedule: Any,
    steps: Any,
    chains: int,
    adapts: bool,
    target_accept: Any,
    reverse: bool,
    chunk_size: Any,
    seed: Any,
) -> Plan:
    """The plan of some arguments. Raises ValueError for bad ones."""
    steps, chunk_size = check_count("steps", steps), check_count("chunk_size", chunk_size)
    if not (isinstance(schedule, str) and schedule == "adaptive"):
        schedule = schedule if isinstance(schedule, str) else tuple(np.ravel(schedule))
        inverse_temperatures(schedule, steps)
    elif chains < 2:
        raise ValueError(
            "schedule='adaptive' is found from the spread over chains: pass chains=2 or more, or "
            f"one of {', '.join(map(repr, SCHEDULES[:-1]))}."
        )
    return Plan(
        schedule=schedule,
        steps=steps,
        adapts=adapts,
        target=check_number("target_accept", target_accept, above=0, below=1),
        reverse=reverse,
        seed=check_seed("seed", seed),
        most=max(1, chunk_size // chains),
    )


def check_start(start: Any, *, has_guide: bool) -> str:
    """Where chains start. Raises ValueError for another word, and without a guide to start from."""
    start = check_choice("start", start, ("guide", "prior"))
    if start == "guide" and not has_guide:
        raise ValueError(
            "start='guide' needs the run of a guide, but a model alone was given: pass "
            "start='prior', or a run."
        )
    return start


def check_reverse(reverse_from: Any) -> Mapping[str, Any] | None:
    """The draws that reverse chains start from; None where they start elsewhere, or do not run."""
    if reverse_from is None or (isinstance(reverse_from, str) and reverse_from == CHAINS):
        return None
    if not isinstance(reverse_from, Mapping) or not reverse_from:
        refuse(
            "reverse_from",
            "'chains', None, or draws of the posterior {site: (num_draws, ...)}",
            reverse_from,
        )
    lengths = {name: len(x) if np.ndim(x) else 0 for name, x in reverse_from.items()}
    if len(set(lengths.values())) != 1 or 0 in lengths.values():
        raise ValueError(
            "reverse_from must hold as many draws of every site, one or more, in front: {site: "
            f"(num_draws, ...)}}, got {lengths}."
        )
    return reverse_from


def check_kernel(kernel: Any, uncorrected: type) -> bool:
    """Whether a kernel has step sizes to be adapted. Raises ValueError for what is none, and for
    one that does not leave densities as they are."""
    if isinstance(kernel, uncorrected):
        raise ValueError(
            f"{type(kernel).__name__} takes every proposal, so that it does not leave the "
            "densities between start and target as they are, and the mean weight is not the "
            "evidence: take HMC or MALA."
        )
    if not callable(kernel) or isinstance(kernel, type):
        refuse("kernel", "a transition kernel such as HMC(0.1, 10), or a function of b", kernel)
    return hasattr(kernel, "step_size") or not hasattr(kernel, "noise")


def spread_over(given: Mapping[str, Any], chains: int) -> dict[str, np.ndarray]:
    """Values (num_draws, ...) for each chain, evenly spread over the draws.

    Example:
        >>> spread_over({"z": np.arange(6)}, 3)["z"], spread_over({"z": np.arange(1)}, 3)["z"]
        (array([0, 2, 4]), array([0, 0, 0]))
    """
    return {name: np.asarray(x)[np.arange(chains) * len(x) // chains] for name, x in given.items()}


def check_reversible(drawn: Collection[str], given: Collection[str]) -> None:
    """Raises ValueError where a guide draws what is not given, so that nothing says where it would
    have drawn the values that are."""
    if beyond := [name for name in drawn if name not in given]:
        raise ValueError(
            f"Reverse chains start where the guide would have drawn {sorted(given)}, but it draws "
            f"{beyond}: pass start='prior', which draws the model's own sites."
        )


def check_inside(name: str, inside: np.ndarray) -> None:
    """Raises ValueError for draws of the posterior outside the support of the start, given whether
    each is inside: the weights of reverse chains from there would be infinite."""
    if bad := int((~inside).sum()):
        raise ValueError(
            f"{bad} of {inside.size} values of site '{name}' that reverse chains start from lie "
            "outside the support of what the guide draws, so that there is no upper bound: pass "
            "start='prior', or a guide that draws all that the posterior can be."
        )


def check_on_line(name: str, u: np.ndarray) -> None:
    """Raises ValueError for draws at the ends of their support, which lie nowhere on the line."""
    if bad := int((~np.isfinite(u)).sum()):
        raise ValueError(
            f"{bad} of {u.size} entries of site '{name}' are NaN, or lie so near the ends of their "
            "support that they have no place on the real line: start elsewhere, or in double "
            "precision."
        )
