"""The arithmetic of linear-Gaussian state-space models: the Kalman filter, and the posterior as a
chain backward in time.
"""

from typing import Any, NamedTuple

import torch
from pyro import distributions as dist
from torch import Tensor

from dgm_core.arguments import refuse
from dgm_core.paths import NOT_LINEAR, NOT_LINEAR_EMISSION
from pyro_dgm.conditionals.linear_normal import LinearNormal
from pyro_dgm.conditionals.multivariate import FullRankNormal, LowRankNormal
from pyro_dgm.conditionals.normal import DiagonalNormal, Normal, StandardNormal
from pyro_dgm.conditionals.paths.markov import Markov

__all__: list[str] = []

_NORMAL = (LinearNormal, FullRankNormal, LowRankNormal, DiagonalNormal, Normal, StandardNormal)


class System(NamedTuple):
    """The numbers of a linear-Gaussian model: matrices, and offsets of each step."""

    first: tuple[Tensor, Tensor]  # mean (*batch, z_dim) and covariance of the first state
    transition: Tensor  # F
    offsets: Tensor  # b (*batch, T, z_dim), of the step that is reached
    noise: Tensor  # Q
    emission: Tensor  # H
    shift: Tensor  # d
    emission_noise: Tensor  # R


class Filtered(NamedTuple):
    """What a Kalman filter leaves of each step: (*batch, T), (*batch, T, z_dim) and so on; without
    batch where the covariances are the same for all data.
    """

    log_probs: Tensor  # log p(x_t | x_1, ..., x_{t-1})
    means: Tensor
    covariances: Tensor


def check_linear(prior: Any, emission: Any) -> None:
    """ValueError unless prior and emission are linear and Gaussian."""
    good = isinstance(prior, Markov) and isinstance(prior.transition, LinearNormal | Normal)
    if not good or not isinstance(prior.initial, (*_NORMAL, type(None))):
        refuse("prior", NOT_LINEAR, prior)
    (z_dim,) = prior.transition.event_shape
    good = isinstance(emission, LinearNormal | Normal) and len(emission.event_shape) == 1
    if not good or emission.context_shape != (z_dim,):
        refuse("emission", NOT_LINEAR_EMISSION.format(z_dim=z_dim), emission)


def covariance_of(distribution: Any) -> Tensor:
    """The covariance of a normal distribution of vectors."""
    if hasattr(distribution, "covariance_matrix"):
        return distribution.covariance_matrix
    return distribution.variance.diag_embed()


def system_of(prior: Markov, emission: Any, controls: Tensor | None) -> System:
    """The numbers of a linear-Gaussian model given control inputs (*batch, T, *controls)."""
    (z_dim,) = prior.transition.event_shape
    transition: Any = prior.transition
    weight, bias = transition.head.weight, transition.head.bias
    offsets = bias.expand(prior.length, -1)
    if controls is not None:
        inputs = controls.flatten(1 - len(prior.context_shape))
        offsets = inputs @ weight[:, z_dim:].mT + bias
    first = prior.first(None if controls is None else controls.select(-len(prior.context_shape), 0))
    noise = transition.build(torch.zeros_like(bias))
    emitted = emission.build(torch.zeros_like(emission.head.bias))
    return System(
        (first.mean, covariance_of(first)),
        weight[:, :z_dim],
        offsets,
        covariance_of(noise),
        emission.head.weight,
        emission.head.bias,
        covariance_of(emitted),
    )


def kalman_filter(system: System, x: Tensor, mask: Tensor | None) -> Filtered:
    """The filter of x (*batch, T, x_dim), in which steps that the mask excludes tell nothing."""
    (mean, covariance), found = system.first, []
    identity = torch.eye(mean.shape[-1], dtype=mean.dtype, device=mean.device)
    for t in range(x.shape[-2]):
        if t:
            mean = times(system.transition, mean) + system.offsets[..., t, :]
            covariance = system.transition @ covariance @ system.transition.mT + system.noise
        loc = times(system.emission, mean) + system.shift
        across = covariance @ system.emission.mT
        spread = system.emission @ across + system.emission_noise
        factor = torch.linalg.cholesky(spread)
        log_prob = dist.MultivariateNormal(loc, scale_tril=factor).log_prob(x[..., t, :])
        gain = torch.cholesky_solve(across.mT, factor).mT
        kept = identity - gain @ system.emission
        seen = mean + times(gain, x[..., t, :] - loc)
        less = kept @ covariance @ kept.mT + gain @ system.emission_noise @ gain.mT
        if mask is not None:
            here = mask[..., t]
            log_prob = torch.where(here, log_prob, torch.zeros_like(log_prob))
            seen = torch.where(here[..., None], seen, mean)
            less = torch.where(here[..., None, None], less, covariance)
        mean, covariance = seen, less
        found.append((log_prob, mean, covariance))
    log_probs, means, covariances = zip(*found)
    wide = torch.broadcast_shapes(*(m.shape for m in means))
    square = torch.broadcast_shapes(*(c.shape for c in covariances))
    return Filtered(
        torch.stack(log_probs, -1),
        torch.stack([m.expand(wide) for m in means], -2),
        torch.stack([c.expand(square) for c in covariances], -3),
    )


def backward(system: System, found: Filtered, ends: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Gains, offsets and Cholesky factors of p(z_t | z_{t+1}, x_1, ..., x_t), of all steps at once;
    where `ends` is false, and in the last step, nothing follows.
    """
    length = found.means.shape[-2]
    matrix, covariances = system.transition, found.covariances
    ahead = matrix @ covariances @ matrix.mT + system.noise
    gains = torch.cholesky_solve(matrix @ covariances, torch.linalg.cholesky(ahead)).mT
    last = torch.arange(length, device=gains.device) < length - 1
    last = last if ends is None else last & ends
    gains = torch.where(last[..., None, None], gains, torch.zeros_like(gains))
    kept = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device) - gains @ matrix
    rest = kept @ covariances @ kept.mT + gains @ system.noise @ gains.mT
    reached = system.offsets.roll(-1, -2)
    offsets = found.means - times(gains, times(matrix, found.means) + reached)
    return gains, offsets, torch.linalg.cholesky(rest)


def times(matrix: Tensor, vector: Tensor) -> Tensor:
    """The products of matrices and vectors (*batch, dim)."""
    return (matrix @ vector[..., None])[..., 0]
