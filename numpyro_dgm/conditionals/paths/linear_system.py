"""The arithmetic of linear-Gaussian state-space models: the Kalman filter, and the posterior as a
chain backward in time.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array
from jax.scipy.linalg import cho_solve

from dgm_core.arguments import refuse
from dgm_core.paths import NOT_LINEAR, NOT_LINEAR_EMISSION
from numpyro_dgm.conditionals.linear_normal import LinearNormal
from numpyro_dgm.conditionals.multivariate import FullRankNormal, LowRankNormal
from numpyro_dgm.conditionals.normal import DiagonalNormal, Normal, StandardNormal
from numpyro_dgm.conditionals.paths.markov import Markov

__all__: list[str] = []

_NORMAL = (LinearNormal, FullRankNormal, LowRankNormal, DiagonalNormal, Normal, StandardNormal)


class System(NamedTuple):
    """The numbers of a linear-Gaussian model: matrices, and offsets of each step."""

    first: tuple[Array, Array]  # mean (*batch, z_dim) and covariance of the first state
    transition: Array  # F
    offsets: Array  # b (*batch, T, z_dim), of the step that is reached
    noise: Array  # Q
    emission: Array  # H
    shift: Array  # d
    emission_noise: Array  # R


class Filtered(NamedTuple):
    """What a Kalman filter leaves of each step: (*batch, T), (*batch, T, z_dim) and so on; without
    batch where the covariances are the same for all data.
    """

    log_probs: Array  # log p(x_t | x_1, ..., x_{t-1})
    means: Array
    covariances: Array


def check_linear(prior: Any, emission: Any) -> None:
    """ValueError unless prior and emission are linear and Gaussian."""
    good = isinstance(prior, Markov) and isinstance(prior.transition, LinearNormal | Normal)
    if not good or not isinstance(prior.initial, (*_NORMAL, type(None))):
        refuse("prior", NOT_LINEAR, prior)
    (z_dim,) = prior.transition.event_shape
    good = isinstance(emission, LinearNormal | Normal) and len(emission.event_shape) == 1
    if not good or emission.context_shape != (z_dim,):
        refuse("emission", NOT_LINEAR_EMISSION.format(z_dim=z_dim), emission)


def covariance_of(distribution: Any) -> Array:
    """The covariance of a normal distribution of vectors."""
    if hasattr(distribution, "covariance_matrix"):
        return distribution.covariance_matrix
    variance = distribution.variance
    return variance[..., None] * jnp.eye(variance.shape[-1], dtype=variance.dtype)


def system_of(prior: Markov, emission: Any, controls: Array | None) -> System:
    """The numbers of a linear-Gaussian model given control inputs (*batch, T, *controls)."""
    (z_dim,) = prior.transition.event_shape
    transition: Any = prior.transition
    weight, bias = transition.head.weight, transition.head.bias
    offsets, control = jnp.broadcast_to(bias, (prior.length, z_dim)), None
    if controls is not None:
        rank = len(prior.context_shape)
        inputs = controls.reshape(*controls.shape[: controls.ndim - rank], prior.length, -1)
        offsets = inputs @ weight[:, z_dim:].mT + bias
        control = controls[(..., 0, *[slice(None)] * (rank - 1))]
    first = prior.first(control)
    noise = transition.build(jnp.zeros_like(bias))
    emitted = emission.build(jnp.zeros_like(emission.head.bias))
    return System(
        (first.mean, covariance_of(first)),
        weight[:, :z_dim],
        offsets,
        covariance_of(noise),
        emission.head.weight,
        emission.head.bias,
        covariance_of(emitted),
    )


def kalman_filter(system: System, x: Array, mask: Array | None) -> Filtered:
    """The filter of x (*batch, T, x_dim), in which steps that the mask excludes tell nothing."""
    (mean, covariance), reached = system.first, jnp.roll(system.offsets, -1, -2)
    identity = jnp.eye(mean.shape[-1], dtype=mean.dtype)
    masks = None if mask is None else jnp.moveaxis(mask, -1, 0)
    squares = (
        covariance.shape[:-2]
        if mask is None
        else (jnp.broadcast_shapes(covariance.shape[:-2], mask.shape[:-1]))
    )
    batch = jnp.broadcast_shapes(squares, x.shape[:-2], mean.shape[:-1], system.offsets.shape[:-2])
    start = (
        jnp.broadcast_to(mean, (*batch, mean.shape[-1])),
        jnp.broadcast_to(covariance, (*squares, *covariance.shape[-2:])),
    )

    def step(predicted: tuple[Array, Array], given: Any) -> tuple[tuple[Array, Array], Any]:
        (mean, covariance), (x_t, offset, here) = predicted, given
        loc = times(system.emission, mean) + system.shift
        across = covariance @ system.emission.mT
        factor = jnp.linalg.cholesky(system.emission @ across + system.emission_noise)
        log_prob = dist.MultivariateNormal(loc, scale_tril=factor).log_prob(x_t)
        gain = cho_solve((factor, True), across.mT).mT
        kept = identity - gain @ system.emission
        seen = mean + times(gain, x_t - loc)
        less = kept @ covariance @ kept.mT + gain @ system.emission_noise @ gain.mT
        if here is not None:
            log_prob = jnp.where(here, log_prob, 0.0)
            seen = jnp.where(here[..., None], seen, mean)
            less = jnp.where(here[..., None, None], less, covariance)
        ahead = (
            times(system.transition, seen) + offset,
            system.transition @ less @ system.transition.mT + system.noise,
        )
        return ahead, (log_prob, seen, less)

    by_time = jnp.moveaxis(x, -2, 0), jnp.moveaxis(reached, -2, 0), masks
    _, (log_probs, means, covariances) = jax.lax.scan(step, start, by_time)
    return Filtered(
        jnp.moveaxis(log_probs, 0, -1),
        jnp.moveaxis(means, 0, -2),
        jnp.moveaxis(covariances, 0, -3),
    )


def backward(system: System, found: Filtered, ends: Array | None) -> tuple[Array, Array, Array]:
    """Gains, offsets and Cholesky factors of p(z_t | z_{t+1}, x_1, ..., x_t), of all steps at once;
    where `ends` is false, and in the last step, nothing follows.
    """
    length = found.means.shape[-2]
    matrix, covariances = system.transition, found.covariances
    ahead = matrix @ covariances @ matrix.mT + system.noise
    gains = cho_solve((jnp.linalg.cholesky(ahead), True), matrix @ covariances).mT
    last = jnp.arange(length) < length - 1
    last = last if ends is None else last & ends
    gains = jnp.where(last[..., None, None], gains, jnp.zeros_like(gains))
    kept = jnp.eye(matrix.shape[-1], dtype=matrix.dtype) - gains @ matrix
    rest = kept @ covariances @ kept.mT + gains @ system.noise @ gains.mT
    reached = jnp.roll(system.offsets, -1, -2)
    offsets = found.means - times(gains, times(matrix, found.means) + reached)
    return gains, offsets, jnp.linalg.cholesky(rest)


def times(matrix: Array, vector: Array) -> Array:
    """The products of matrices and vectors (*batch, dim)."""
    return (matrix @ vector[..., None])[..., 0]
