"""Linear-Gaussian state-space models: the exact evidence (Kalman filter) and the exact posterior
(Kalman smoother), as conditionals of whole sequences.

z_1 ~ Normal(m_1, P_1);  z_t ~ Normal(F z_{t-1} + b_t, Q);  x_t ~ Normal(H z_t + d, R).
"""

from typing import Any, ClassVar, NamedTuple

import torch
from pyro import distributions as dist
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor

from dgm_core.arguments import refuse
from dgm_core.paths import NOT_LINEAR, NOT_LINEAR_EMISSION
from pyro_dgm.conditionals.base import Conditional
from pyro_dgm.conditionals.linear_normal import LinearNormal
from pyro_dgm.conditionals.multivariate import FullRankNormal, LowRankNormal
from pyro_dgm.conditionals.normal import DiagonalNormal, Normal, StandardNormal
from pyro_dgm.conditionals.paths.base import (
    ObservedPath,
    batch_of,
    cleared,
    mask_of,
    total,
)
from pyro_dgm.conditionals.paths.markov import Markov
from pyro_dgm.conditionals.paths.steps import Steps

__all__ = ["KalmanSmoother", "LinearGaussian"]

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


class LinearGaussian(ObservedPath):
    """Sequences of a linear-Gaussian state-space model, its states summed out:  p(x_{1:T}) = int
    p(z_{1:T}) prod_t p(x_t | z_t) dz.

    log_prob is the exact evidence, by the Kalman filter; what comes of a bound on it is known to
    the last digit.

    Args:
        prior: of the states, `Markov` with transition `LinearNormal` or `Normal` and a normal
            initial conditional.
        emission: of x_t given z_t, `LinearNormal` or `Normal` with context_shape=z_dim.

    Shapes:
        context: the control inputs of the prior (*batch, T, *controls), none without them; lengths
        (*batch,); observed (*batch, T), false for missing steps -> event_shape (T, x_dim).

    Cost:
        T steps with a Cholesky factorization of R's size each.

    Raises:
        ValueError: if prior or emission is not linear and Gaussian.

    References:
        Kalman (1960), J. Basic Eng. 82; Särkkä (2013), Bayesian Filtering and Smoothing.

    Example:
        >>> from pyro_dgm.conditionals import LinearNormal, Markov, StandardNormal
        >>> chain = Markov(LinearNormal(2, context_shape=2), 7, initial=StandardNormal(2))
        >>> LinearGaussian(chain, LinearNormal(1, context_shape=2))().rsample((5,)).shape
        torch.Size([5, 7, 1])
    """

    def __init__(self, prior: Markov, emission: Conditional) -> None:
        check_linear(prior, emission)
        super().__init__(prior.length, emission.event_shape, context_shape=prior.context_shape)
        self.prior, self.emission = prior, emission

    def along(
        self, context: Any, lengths: Tensor | None, observed: Tensor | None = None
    ) -> "_Evidence":
        """The distribution given checked control inputs, lengths and mask."""
        batch = batch_of(context, self.context_shape, lengths, observed)
        return _Evidence(self, context, lengths, observed, batch)

    def filtered(
        self, x: Tensor, context: Any = None, lengths: Any = None, observed: Tensor | None = None
    ) -> "Filtered":
        """The Kalman filter: log p(x_t | x_1, ..., x_{t-1}), and mean and covariance of z_t given
        x_1, ..., x_t, for x (*batch, T, x_dim); all else as in a call of the conditional.
        """
        mask = mask_of(lengths, self.length, observed)
        return kalman_filter(system_of(self.prior, self.emission, context), cleared(x, mask), mask)

    def _sizes(self) -> tuple[str, ...]:
        return (repr(self.prior), type(self.emission).__name__)


class _Evidence(TorchDistribution):
    """The paths x of a linear-Gaussian model."""

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    support = constraints.independent(constraints.real, 2)
    has_rsample = True

    def __init__(
        self,
        model: LinearGaussian,
        controls: Tensor | None,
        lengths: Tensor | None,
        observed: Tensor | None,
        batch_shape: torch.Size,
    ) -> None:
        self.model, self.controls = model, controls
        self.lengths, self.observed = lengths, observed
        super().__init__(batch_shape, torch.Size(model.event_shape), validate_args=False)

    def expand(self, batch_shape: torch.Size, _instance: None = None) -> "_Evidence":
        shape = torch.Size(batch_shape)
        return _Evidence(self.model, self.controls, self.lengths, self.observed, shape)

    def rsample(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> Tensor:
        prior = self.model.prior.along(self.controls, self.lengths).expand(self.batch_shape)
        z = prior.rsample(torch.Size(sample_shape))
        return Steps(self.model.emission, self.model.length).along(z, self.lengths).rsample()

    def log_prob(self, value: Tensor) -> Tensor:
        found = self.model.filtered(value, self.controls, self.lengths, self.observed)
        shape = torch.broadcast_shapes(found.log_probs.shape[:-1], self.batch_shape)
        log_probs = found.log_probs.expand(*shape, -1)
        return total(log_probs, self.lengths, self.observed)

    @property
    def mean(self) -> Tensor:
        model = system_of(self.model.prior, self.model.emission, self.controls)
        state, means = model.first[0], []
        for t in range(self.model.length):
            if t:
                state = times(model.transition, state) + model.offsets[..., t, :]
            means.append(times(model.emission, state) + model.shift)
        mean = torch.stack(means, -2).expand(self.batch_shape + self.event_shape)
        return cleared(mean, mask_of(self.lengths, self.model.length))


class KalmanSmoother(ObservedPath):
    """The exact posterior of the states of a linear-Gaussian model:  q(z_{1:T} | x_{1:T}) = p(z_T |
    x) prod_t p(z_t | z_{t+1}, x_{1:t}).

    With it every bound is the evidence, without variance. With a learned emission it is a guide
    that fuses an encoder's features of each step with the dynamics of the prior: the features
    stand for x.

    Args:
        prior: of the states, and emission: of x_t, as in `LinearGaussian`; their parameters are
            shared, not copied.
        emission: .

    Shapes:
        context x (*batch, T, x_dim), with control inputs of the prior a pair (x, controls); lengths
        (*batch,); observed (*batch, T), false for missing steps -> event_shape (T, z_dim).

    Cost:
        the Kalman filter, T steps; a draw another T products of matrices and vectors; log_prob
        none, it is one batch.

    Raises:
        ValueError: if prior or emission is not linear and Gaussian.

    References:
        Rauch, Tung & Striebel (1965), AIAA J. 3; Johnson et al. (2016), arXiv:1603.06277, for
        encoders as emissions.

    Example:
        >>> from pyro_dgm.conditionals import LinearNormal, Markov, StandardNormal
        >>> chain = Markov(LinearNormal(2, context_shape=2), 7, initial=StandardNormal(2))
        >>> smoother = KalmanSmoother(chain, LinearNormal(1, context_shape=2))
        >>> smoother(torch.zeros(5, 7, 1)).rsample().shape
        torch.Size([5, 7, 2])
    """

    def __init__(self, prior: Markov, emission: Conditional) -> None:
        check_linear(prior, emission)
        x_shape = (prior.length, *emission.event_shape)
        super().__init__(
            prior.length,
            prior.transition.event_shape,
            context_shape=(x_shape, prior.context_shape) if prior.context_shape else x_shape,
        )
        self.prior, self.emission = prior, emission

    def along(
        self, context: Any, lengths: Tensor | None, observed: Tensor | None = None
    ) -> "_Posterior":
        """The posterior given checked x, lengths and mask."""
        batch = batch_of(context, self.context_shape, lengths, observed)
        x, controls = context if self.prior.context_shape else (context, None)
        system = system_of(self.prior, self.emission, controls)
        mask = mask_of(lengths, self.length, observed)
        found = kalman_filter(system, cleared(x, mask), mask)
        ends = None if lengths is None else mask_of(lengths - 1, self.length)  # false at the end
        return _Posterior(*backward(system, found, ends), lengths, batch)

    def _sizes(self) -> tuple[str, ...]:
        return (repr(self.prior), type(self.emission).__name__)


class _Posterior(TorchDistribution):
    """The backward chain z_t ~ Normal(G_t z_{t+1} + c_t, C_t), with C_t = L_t L_t'."""

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    support = constraints.independent(constraints.real, 2)
    has_rsample = True

    def __init__(
        self,
        gains: Tensor,
        offsets: Tensor,
        scales: Tensor,
        lengths: Tensor | None,
        batch_shape: torch.Size,
    ) -> None:
        self.gains, self.offsets, self.scales, self.lengths = gains, offsets, scales, lengths
        super().__init__(batch_shape, offsets.shape[-2:], validate_args=False)

    def expand(self, batch_shape: torch.Size, _instance: None = None) -> "_Posterior":
        parts = self.gains, self.offsets, self.scales, self.lengths
        return _Posterior(*parts, torch.Size(batch_shape))

    def rsample(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        noise = torch.randn(shape, dtype=self.offsets.dtype, device=self.offsets.device)
        return self._path(self.offsets + times(self.scales, noise))

    def log_prob(self, value: Tensor) -> Tensor:
        value = cleared(value, self._mask)
        value = value.expand(
            torch.broadcast_shapes(value.shape, self.batch_shape + self.event_shape)
        )
        following = torch.cat([value[..., 1:, :], torch.zeros_like(value[..., :1, :])], -2)
        loc = times(self.gains, following) + self.offsets
        steps = dist.MultivariateNormal(loc, scale_tril=self.scales)
        return total(steps.log_prob(value), self.lengths)

    @property
    def mean(self) -> Tensor:
        return self._path(self.offsets.expand(self.batch_shape + self.event_shape))

    @property
    def covariance_matrix(self) -> Tensor:
        """Of each step (*batch, T, z_dim, z_dim)."""
        covariance, found = torch.zeros_like(self.scales[..., 0, :, :]), []
        for t in reversed(range(self.event_shape[0])):
            gain, scale = self.gains[..., t, :, :], self.scales[..., t, :, :]
            covariance = gain @ covariance @ gain.mT + scale @ scale.mT
            found.append(covariance)
        return torch.stack(found[::-1], -3)

    @property
    def variance(self) -> Tensor:
        variance = self.covariance_matrix.diagonal(dim1=-2, dim2=-1)
        return cleared(variance.expand(self.batch_shape + self.event_shape), self._mask)

    @property
    def _mask(self) -> Tensor | None:
        return mask_of(self.lengths, self.event_shape[0])

    def _path(self, inputs: Tensor) -> Tensor:
        """z_t = G_t z_{t+1} + inputs_t, from the end."""
        state, path = torch.zeros_like(inputs[..., 0, :]), []
        for t in reversed(range(inputs.shape[-2])):
            state = times(self.gains[..., t, :, :], state) + inputs[..., t, :]
            path.append(state)
        return cleared(torch.stack(path[::-1], -2), self._mask)


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
