"""Paths of a particle filter drawn from their end (backward simulation)."""

from collections.abc import Mapping
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

__all__: list[str] = []  # for the package, not for users


def simulated(
    pair: Any,
    states: Any,
    log_w: Array,
    values: Mapping[str, Array],
    num_draws: int,
    *,
    key: Array,
) -> tuple[Array, Array]:
    """Particles of each step (time, num_draws, *batch) that make paths of p(z_1, ..., z_T | x):
    j_T ~ w_T,  then  j_t ~ w_t p(z_{t+1}, x_{t+1} | state_t)  at the z_{t+1} that was drawn.

    That is right where a state behind a step does not depend on the one before, given the step's
    draws. By how much it does (*batch), beside the size of its numbers, comes second.

    Args:
        pair: of steps.
        states: of the model behind each step (time, ...), of particles (num_particles, *batch).
        log_w: weights (time, num_particles, *batch), before any resampling.
        values: the draws by latent statement (time, num_particles, *batch, *event).
        num_draws: .

    Cost:
        T steps of the model on num_draws times num_particles times the batch.
    """
    num, batch = log_w.shape[1], log_w.shape[2:]
    model, shape = pair.model.steps, (num_draws * num, *batch)
    ends = jnp.asarray(pair.length if pair.lengths is None else pair.lengths)
    first, key = jax.random.split(key)
    last = jax.random.categorical(first, log_w[-1], 0, shape=(num_draws, *batch))

    def step(carry: tuple[Array, Array], now: Any) -> tuple[tuple[Array, Array], Array]:
        (index, memory), (t, before, log_w, values, given, key) = carry, now
        keys = jax.random.split(key)
        drawn = {name: jnp.repeat(_picked(x, index), num, 0) for name, x in values.items()}
        given = {**given, "values": {**given["values"], **drawn}}
        before = jax.tree.map(lambda x: jnp.tile(x, (num_draws, *[1] * (x.ndim - 1))), before)
        scored = model.one(before, given, {}, keys[0])
        score = sum(scored.scores.values(), jnp.zeros(shape))
        gap = _memory(model.wide(scored.state, shape), num, len(batch))
        memory = jnp.where(t + 1 < ends, jnp.maximum(memory, gap), memory)
        log_w = log_w + score.reshape(num_draws, num, *batch)
        index = jax.random.categorical(keys[1], log_w, 1)
        return (index, memory), index

    given = jax.tree.map(lambda x: x[1:], (values, pair.slices[0]))
    steps, keys = jnp.arange(1, pair.length), jax.random.split(key, pair.length - 1)
    before = jax.tree.map(lambda x: x[:-1], (states, log_w))
    start = last, jnp.zeros(batch)
    (_, memory), found = jax.lax.scan(step, start, (steps, *before, *given, keys), reverse=True)
    return jnp.concatenate([found, last[None]]), memory


def _picked(x: Array, index: Array) -> Array:
    """Values (num_draws, *batch, *event) of particles (num, *batch, *event) by their numbers."""
    own = index.reshape(*index.shape, *[1] * (x.ndim - index.ndim))
    return jnp.take_along_axis(x, own, 0)


def _memory(state: Any, num: int, batch_ndim: int) -> Array:
    """The largest relative difference (*batch) of states (num_draws * num, *batch, *event) that
    come from different ones."""
    gaps = []
    for leaf in jax.tree.leaves(state):
        batch = leaf.shape[1 : 1 + batch_ndim]
        leaf = leaf.astype(float).reshape(-1, num, *batch, prod(leaf.shape[1 + batch_ndim :]))
        gap = jnp.abs(leaf - leaf[:, :1]) / (1 + jnp.abs(leaf[:, :1]))
        gaps.append(gap.max(-1).max((0, 1)))
    return jnp.stack(gaps).max(0)
