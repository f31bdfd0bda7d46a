"""The particle filter of a model and a guide that are written as steps."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from dgm_core.resampling import Resampling
from numpyro_dgm.conditionals.paths.base import known
from numpyro_dgm.sequences.ancestors import log_mean_weight, resampled

__all__: list[str] = []  # for the package, not for users


class Moment(NamedTuple):
    """One step of a particle filter.

    step: what the pair of steps gave;  log_w: weights (num_particles, *batch), with those carried
    along since the last resampling; log_evidence: log p(x_1, ..., x_t), estimated (*batch);
    chosen: what is resampled after this step (*batch);  ancestors: whom each particle then follows,
    itself where nothing is (num_particles, *batch).
    """

    step: Any
    log_w: Array
    log_evidence: Array
    chosen: Array
    ancestors: Array


def filtered(
    pair: Any,
    num_particles: int,
    rule: Resampling,
    keep: Callable[[Moment], Any],
    *,
    key: Array,
) -> tuple[Array, Any]:
    """log Zhat, an estimate of log p(x) (*batch), and what `keep` gives of each step, a tree of
    arrays (time, ...).

    Zhat = prod_r 1/K sum_k w_k over the resamplings r and the end, with the weights w_k that have
    come together since the last one, whatever the rule: E Zhat = p(x). A sequence that has ended is
    neither weighed nor resampled, and none is after its last step. NaN for lengths that no sequence
    has, where values are not known.

    Cost:
        T steps of model and guide on num_particles times the batch.
    """
    shape = (num_particles, *pair.batch_shape)
    ends = pair.length if pair.lengths is None else pair.lengths

    def step(carry: Any, now: Any) -> Any:
        (states, log_w, log_z), (t, now, key) = carry, now
        draw_key, uniform_key = jax.random.split(key)
        out = pair.step(states, now, key=draw_key)
        states, log_w = out.states, log_w + out.log_weight
        log_evidence = known(log_z + log_mean_weight(log_w), pair.lengths, pair.length)
        uniforms = uniform_numbers(log_w, rule, t, key=uniform_key)
        chosen, index = resampled(log_w, uniforms, rule, t + 1 < ends)
        kept = keep(Moment(out, log_w, log_evidence, chosen, index))
        if rule.happens:
            states = pair.chosen(states, index)
            log_z = jnp.where(chosen, log_evidence, log_z)
            log_w = jnp.where(chosen, 0.0, log_w)
        return (states, log_w, log_z), (log_evidence, kept)

    start = pair.initial(num_particles), jnp.zeros(shape), jnp.zeros(shape[1:])
    now = jnp.arange(pair.length), pair.slices, jax.random.split(key, pair.length)
    _, (log_evidence, kept) = jax.lax.scan(step, start, now)
    return log_evidence[-1], kept


def uniform_numbers(log_w: Array, rule: Resampling, t: Array, *, key: Array) -> Array:
    """What one resampling takes (`Resampling.num_uniforms`, *batch); none are drawn where none
    happens."""
    shape = (rule.num_uniforms(len(log_w)), *log_w.shape[1:])
    if not rule.happens:
        return jnp.zeros(shape, log_w.dtype)
    return jax.random.uniform(key, shape, log_w.dtype)
