"""ln Z of restricted Boltzmann machines: by enumeration, and by annealing."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from dgm_core.annealing.bounds import AnnealedBounds
from dgm_core.annealing.schedules import inverse_temperatures
from dgm_core.arguments import check_count, check_floats, check_seed

__all__ = ["LARGEST", "annealed_boltzmann", "check_enumerated", "states"]

LARGEST = 20  # units whose states are enumerated


def states(num: int) -> np.ndarray:
    """All states of `num` binary units, in the order of binary numbers, (2^num, num).

    Example:
        >>> states(2).tolist()
        [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]
    """
    numbers = np.arange(2**num)[:, None]
    return (numbers >> np.arange(num)[::-1] & 1).astype(np.float64)


def check_enumerated(num: int) -> None:
    """Raises ValueError where the smaller layer has too many units to enumerate."""
    if num > LARGEST:
        raise ValueError(
            f"The smaller layer has {num} units, and the states of at most {LARGEST} are "
            "enumerated: annealed() finds an interval of ln Z."
        )


def annealed_boltzmann(
    weight: Any, visible: Any, hidden: Any, *, steps: int, chains: int, schedule: Any, seed: int
) -> AnnealedBounds:
    """An interval of ln Z of p(v, h) = exp(v^T W h + b^T v + c^T h) / Z.

    Chains of block Gibbs steps go from the machine with W = 0 and c = 0, whose constant is known,
    to this one, and back: from exact draws where the visible states can be enumerated, else from
    the ends of the forward chains.

    Args:
        weight, visible, hidden: W (V, H), b (V,), c (H,).
        steps, chains, schedule, seed: as `ais` takes them.

    References:
        Salakhutdinov and Murray (2008), On the quantitative analysis of deep belief networks, ICML.

    Example:
        >>> bounds = annealed_boltzmann(np.zeros((2, 1)), np.zeros(2), np.ones(1), steps=20,
        ...                             chains=5, schedule="linear", seed=0)
        >>> bounds.exact, bool(abs(bounds.lower[0] - np.log(4 * (1 + np.e))) < 0.1)
        (True, True)
    """
    machine = tuple(check_floats(*pair) for pair in (("W", weight), ("b", visible), ("c", hidden)))
    steps, chains = check_count("steps", steps), check_count("chains", chains)
    betas = inverse_temperatures(schedule, steps)
    rng = np.random.default_rng(check_seed("seed", seed))
    start = np.logaddexp(0, machine[1]).sum() + len(machine[2]) * np.log(2)
    strata = (rng.permuted(np.tile(np.arange(chains), (len(machine[1]), 1)), axis=1).T) / chains
    uniform = strata + rng.random(strata.shape) / chains
    v = (uniform < _sigmoid(machine[1])).astype(np.float64)
    forward, ends = _moved(machine, v, betas, rng)
    exact = len(machine[1]) <= LARGEST
    if exact:
        all_states = states(len(machine[1]))
        log_p = _log_marginal(machine, all_states, 1.0)
        p = np.exp(log_p - log_p.max())
        at = (np.arange(chains) + rng.random(chains)) / chains
        ends = all_states[np.searchsorted(np.cumsum(p) / p.sum(), at).clip(max=len(p) - 1)]
    reverse, _ = _moved(machine, ends, betas[::-1], rng)
    return AnnealedBounds(
        start + forward[:, None], start - reverse[:, None], exact=exact, schedule=betas
    )


def _moved(
    machine: tuple[np.ndarray, ...], v: np.ndarray, betas: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """log w of chains along a path of temperatures, and where they end.

    Reverse chains are those of the forward path turned round: a transition at the temperature that
    a chain is at, then the weight.
    """
    weight, visible, hidden = machine
    log_w = np.zeros(len(v))
    downward = betas[0] > betas[-1]
    for before, after in pairwise(betas):
        if downward:
            v = _gibbs(weight, visible, hidden, before, v, rng)
        log_w += _log_marginal(machine, v, after) - _log_marginal(machine, v, before)
        if not downward:
            v = _gibbs(weight, visible, hidden, after, v, rng)
    return log_w, v


def _gibbs(
    weight: np.ndarray,
    visible: np.ndarray,
    hidden: np.ndarray,
    beta: float,
    v: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    h = rng.random((len(v), len(hidden))) < _sigmoid(beta * (hidden + v @ weight))
    p = _sigmoid(visible + beta * (h @ weight.T))
    return (rng.random(v.shape) < p).astype(np.float64)


def _log_marginal(machine: tuple[np.ndarray, ...], v: np.ndarray, beta: float) -> np.ndarray:
    """ln sum_h of the density at an inverse temperature, which W and c are multiplied by."""
    weight, visible, hidden = machine
    return v @ visible + np.logaddexp(0, beta * (hidden + v @ weight)).sum(-1)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0, -x))
