"""What terms keep from step to step: trees of arrays by the name of the term, such as
`{"JensenShannon(x)": {"critic": ..., "optim": ...}, "RunningMean": {"mean": 0.3}}`.

In Pyro anything with `state_dict` and `load_state_dict` may stand where a tensor may; in NumPyro
all of it is the mutable site STATES of a step.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

__all__: list[str] = []  # for losses and training, not for users

# Mutable sites: what a loss keeps between the steps of the stock engine.
COUNTER, STATES = "loss$step", "loss$state"


def warmed_up(
    stateful: Mapping[str, Any],
    states: dict[str, Any],
    run: Callable[[Array], Any],
    rng_key: Array,
    step: int | Array,
) -> dict[str, Any]:
    """The states after all their updates but the last, each on fresh draws; a term with fewer of
    them joins later.
    """
    rounds = max(term.num_updates for term in stateful.values()) - 1

    def update(left: Array, states: dict[str, Any]) -> dict[str, Any]:
        key = jax.random.fold_in(rng_key, left)
        new = updated(stateful, states, run(key), jax.random.fold_in(key, 0), step)
        return {
            name: jax.tree.map(
                lambda a, b, active=term.num_updates > left: jnp.where(active, a, b),
                new[name],
                states[name],
            )
            for name, term in stateful.items()
        }

    return (
        jax.lax.stop_gradient(
            jax.lax.fori_loop(0, rounds, lambda i, states: update(rounds - i, states), states)
        )
        if rounds
        else states
    )


def updated(
    stateful: Mapping[str, Any],
    states: dict[str, Any],
    joints: Any,
    key: Array,
    step: int | Array,
) -> dict[str, Any]:
    """The states after one update each."""
    return {
        name: jax.lax.stop_gradient(
            term.update(states[name], joints, step, key=jax.random.fold_in(key, index))
        )
        for index, (name, term) in enumerate(stateful.items())
    }


def mutable_part(param_map: Mapping[str, Any]) -> dict[str, Any]:
    """The mutable sites among what the stock engine hands over: those of losses, and those of
    networks, whose names end in "$state".
    """
    return {
        name: value
        for name, value in param_map.items()
        if name == COUNTER or name.endswith("$state")
    }
