"""Resampling as arithmetic of indices: effective sample sizes and ancestors."""

import math

import jax
import jax.numpy as jnp
from jax import Array

from dgm_core.resampling import Resampling

__all__: list[str] = []  # for the package, not for users


def log_mean_weight(log_w: Array) -> Array:
    """log 1/K sum_k w_k, (num_particles, *data) -> (*data)."""
    return jax.nn.logsumexp(log_w, 0) - math.log(len(log_w))


def effective_size(log_w: Array) -> Array:
    """(sum_k w_k)^2 / sum_k w_k^2, a constant, (num_particles, *data) -> (*data); zero where all
    weights are.
    """
    weights = jax.nn.softmax(jax.lax.stop_gradient(log_w), 0)
    size = 1 / (weights**2).sum(0)
    return jnp.where((log_w == -math.inf).all(0), 0.0, size)


def ancestors(log_w: Array, uniforms: Array, scheme: str) -> Array:
    """Whom each particle follows: indices, each particle k about K w_k / sum_j w_j times.

    The cumulative weights are inverted at points of [0, 1): K independent ones for "multinomial",
    one in each K-th for "stratified", all moved by one number for "systematic"; "residual" takes
    the whole part of K w_k as it is, and draws for the rest. A particle without weight has no
    descendants; where none has any, all count alike.

    Shapes:
        log_w (num_particles, *data), uniforms (`Resampling.num_uniforms`, *data) ->
        (num_particles, *data).
    """
    log_w, num = jax.lax.stop_gradient(log_w), len(log_w)
    log_w = jnp.where((log_w == -math.inf).all(0), 0.0, log_w)
    weights = jnp.moveaxis(jax.nn.softmax(log_w, 0), 0, -1)  # (*data, num_particles)
    slots = jnp.arange(num, dtype=log_w.dtype)
    points = jnp.broadcast_to(jnp.moveaxis(uniforms, 0, -1), weights.shape)
    if scheme in ("stratified", "systematic"):
        points = (slots + points) / num
    if scheme != "residual":
        return jnp.moveaxis(_inverted(weights, points), -1, 0)
    copies = jnp.floor(num * weights)
    drawn = _inverted(num * weights - copies, points)
    total = copies.cumsum(-1)
    kept = _above(total, jnp.broadcast_to(slots, weights.shape))
    return jnp.moveaxis(jnp.where(slots < total[..., -1:], kept, drawn), -1, 0)


def followed(state: object, index: Array) -> object:
    """A tree of arrays (num_particles, *data, ...), each particle replaced by its ancestor."""

    def follow(x: Array) -> Array:
        lead = jnp.broadcast_shapes(x.shape[: index.ndim], index.shape)
        x = jnp.broadcast_to(x, (*lead, *x.shape[index.ndim :]))
        own = jnp.broadcast_to(index, lead).reshape(*lead, *[1] * (x.ndim - index.ndim))
        return jnp.take_along_axis(x, own, 0)

    return jax.tree.map(follow, state)


def resampled(
    log_w: Array, uniforms: Array, rule: Resampling, active: Array | bool
) -> tuple[Array, Array]:
    """Which data are resampled (*data), those among the active whose effective sample size is
    below the threshold; and whom their particles follow, all others themselves.
    """
    itself = jnp.arange(len(log_w)).reshape(-1, *[1] * (log_w.ndim - 1))
    itself = jnp.broadcast_to(itself, log_w.shape)
    size = effective_size(log_w)
    chosen = (size > 0) & (size < rule.threshold(len(log_w))) & active
    if not rule.happens:
        return chosen, itself
    return chosen, jnp.where(chosen, ancestors(log_w, uniforms, rule.scheme), itself)


def _inverted(weights: Array, points: Array) -> Array:
    """The first index whose cumulative weight, of a total of one, lies above a point of [0, 1)."""
    total = weights.cumsum(-1)
    last = total[..., -1:]
    total = total / jnp.where(last > 0, last, 1.0)
    below_one = 1 - jnp.finfo(points.dtype).eps / 2
    return _above(total, points.clip(max=below_one)).clip(max=weights.shape[-1] - 1)


def _above(total: Array, points: Array) -> Array:
    """The first index whose entry lies above each point, row by row."""
    search = jnp.vectorize(
        lambda row, x: jnp.searchsorted(row, x, side="right"), signature="(n),(n)->(n)"
    )
    return search(total, points)
