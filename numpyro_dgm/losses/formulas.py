"""The formulas behind the losses: plain functions of arrays, without models, guides or traces.

Shapes:
    particles lead, then the data: log_w (num_particles, *data).
"""

import math

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import logsumexp

from dgm_core.diagnostics.bounds import jvi_coefficients

__all__ = [
    "attach_gradient",
    "iwae_bound",
    "jackknife_bound",
    "leave_one_out_logsumexp",
    "leave_one_out_mean",
    "normalized_weights",
    "renyi_bound",
    "tail_weights",
    "vimco_signal",
]


def attach_gradient(value: Array, surrogate: Array) -> Array:
    """The number `value` with the gradient of `surrogate`: value and gradient of an estimator in
    one array.

    Shapes:
        value and surrogate (*batch) -> (*batch).  The value is exact: s - stop(s) is zero for every
        finite s.
    """
    return jax.lax.stop_gradient(value) + (surrogate - jax.lax.stop_gradient(surrogate))


def iwae_bound(log_w: Array) -> Array:
    """L_K = log 1/K sum_k w_k, at most log p(x) in expectation and not decreasing in K.

    Shapes:
        log_w (num_particles, *data) -> (*data).

    References:
        Burda, Grosse and Salakhutdinov (2016), arXiv:1509.00519, eq. (8).
    """
    return logsumexp(log_w, 0) - math.log(log_w.shape[0])


def normalized_weights(log_w: Array) -> Array:
    """w_k / sum_j w_j, a constant: no gradient flows.  Shapes: (num_particles, *data) ->
    (num_particles, *data).
    """
    return jax.nn.softmax(jax.lax.stop_gradient(log_w), 0)


def leave_one_out_mean(values: Array, dim: int = 0) -> Array:
    """The mean of all the other entries along `dim`, (sum - own) / (n - 1): a baseline that does
    not see its own draw.

    With a single entry there are no others and the baseline is zero.
    """
    n = values.shape[dim]
    if n == 1:
        return jnp.zeros_like(values)
    return (values.sum(dim, keepdims=True) - values) / (n - 1)


def leave_one_out_logsumexp(log_w: Array) -> Array:
    """log sum_{j != k} w_j for every k, from the sums before and after it: nothing is subtracted,
    so that it is exact where one weight is all there is.

    Shapes:
        log_w (num_particles, ...) -> the same; -inf of a single particle.

    Cost:
        linear in the number of particles.
    """
    none = jnp.full_like(log_w[:1], -math.inf)
    if len(log_w) == 1:
        return none
    before = jnp.concatenate([none, jax.lax.cumlogsumexp(log_w[:-1])])
    after = jnp.concatenate([jax.lax.cumlogsumexp(log_w[1:], reverse=True), none])
    return jnp.logaddexp(before, after)


def vimco_signal(log_w: Array) -> Array:
    """L_K - L_K without particle k, its weight replaced by the geometric mean of the others; a
    constant.

    The learning signal of the score-function gradient of the IWAE bound.

    Shapes:
        (num_particles, *data) -> the same.

    Cost:
        linear in the number of particles.

    References:
        Mnih and Rezende (2016), arXiv:1602.06725, eq. (10).
    """
    log_w = jax.lax.stop_gradient(log_w)
    mean = leave_one_out_mean(log_w)
    mean = jnp.where(jnp.isnan(mean), -math.inf, mean)  # of weights of which two are zero
    others = jnp.logaddexp(leave_one_out_logsumexp(log_w), mean)
    return logsumexp(log_w, 0) - others


def renyi_bound(log_w: Array, alpha: float) -> Array:
    """1 / (1 - alpha) log 1/K sum_k w_k^(1 - alpha): at alpha = 0 the IWAE bound, at 1 the mean of
    log w.

    Shapes:
        (num_particles, *data) -> (*data).

    References:
        Li and Turner (2016), arXiv:1602.02311, eq. (11).
    """
    if alpha == 1:
        return log_w.mean(0)
    return iwae_bound((1 - alpha) * log_w) / (1 - alpha)


def jackknife_bound(log_w: Array, order: int) -> Array:
    """sum_j c(K, m, j) L_{K-j} with the mean IWAE bound L_{K-j} of all subsets of K - j particles,
    c(K, m, j) = (-1)^j (K - j)^m / ((m - j)! j!).

    Its bias falls as K^-(m + 1); it is no bound.

    Shapes:
        (num_particles, *data) -> (*data).

    Cost:
        linear in the number of particles for order 1, quadratic for order 2.

    References:
        Nowozin (2018), Debiasing evidence approximations, ICLR.
    """
    num = len(log_w)
    coefficients = jvi_coefficients(num, order)
    bound = iwae_bound(log_w)
    found = bound
    if order > 0:
        left = leave_one_out_logsumexp(log_w).mean(0) - math.log(num - 1)
        found = found + coefficients[1] * (left - bound)
    if order > 1:
        index = jnp.array([[j for j in range(num) if j != k] for k in range(num)])
        rest = log_w[index.T]  # (num - 1, left out, *data)
        left = leave_one_out_logsumexp(rest).mean((0, 1)) - math.log(num - 2)
        found = found + coefficients[2] * (left - bound)
    return found


def tail_weights(log_w: Array, beta: float) -> Array:
    """The normalized weights F(w_k)^beta with F(w) the share of the particles whose weights are at
    least w; a constant.

    Shapes:
        (num_particles, *data) -> the same.

    References:
        Wang, Liu and Liu (2018), arXiv:1810.11943, algorithm 1.
    """
    last = jnp.moveaxis(jax.lax.stop_gradient(log_w), 0, -1)
    flat = last.reshape(-1, last.shape[-1])
    below = jax.vmap(jnp.searchsorted)(jnp.sort(flat, -1), flat).reshape(last.shape)
    share = (last.shape[-1] - below).astype(log_w.dtype) / last.shape[-1]
    weights = share**beta
    return jnp.moveaxis(weights / weights.sum(-1, keepdims=True), -1, 0)
