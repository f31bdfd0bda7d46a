"""Linear-Gaussian state-space models: the exact evidence (Kalman filter) and the exact posterior
(Kalman smoother), as conditionals of whole sequences.

z_1 ~ Normal(m_1, P_1);  z_t ~ Normal(F z_{t-1} + b_t, Q);  x_t ~ Normal(H z_t + d, R).
"""

from typing import Any, ClassVar

import torch
from pyro import distributions as dist
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor

from dgm_core.contexts import check_expanded
from dgm_core.paths import check_path
from pyro_dgm.conditionals.base import Conditional
from pyro_dgm.conditionals.paths.base import (
    ObservedPath,
    OfSteps,
    batch_of,
    cleared,
    continued_shape,
    first_steps,
    mask_of,
    total,
)
from pyro_dgm.conditionals.paths.linear_system import (
    Filtered,
    backward,
    check_linear,
    kalman_filter,
    system_of,
    times,
)
from pyro_dgm.conditionals.paths.markov import Markov
from pyro_dgm.conditionals.paths.steps import Steps

__all__ = ["KalmanSmoother", "LinearGaussian"]


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
    ) -> Filtered:
        """The Kalman filter: log p(x_t | x_1, ..., x_{t-1}), and mean and covariance of z_t given
        x_1, ..., x_t, for x (*batch, T, x_dim); all else as in a call of the conditional.
        """
        check_path(x.shape, self.event_shape)
        context, lengths, observed = self.checked(context, lengths, observed)
        if context is not None:
            random = mask_of(lengths, self.length)
            context = cleared(context, random, len(self.context_shape) - 1)
        mask = mask_of(lengths, self.length, observed)
        return kalman_filter(system_of(self.prior, self.emission, context), cleared(x, mask), mask)

    def _sizes(self) -> tuple[str, ...]:
        return (repr(self.prior), type(self.emission).__name__)


class _Evidence(OfSteps, TorchDistribution):
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
        shape = torch.Size(check_expanded(self.batch_shape, batch_shape))
        return _Evidence(self.model, self.controls, self.lengths, self.observed, shape)

    def rsample(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> Tensor:
        prior = self.model.prior.along(self.controls, self.lengths).expand(self.batch_shape)
        z = prior.rsample(torch.Size(sample_shape))
        return Steps(self.model.emission, self.model.length).along(z, self.lengths).rsample()

    def continued(self, value: Tensor, lengths: Tensor) -> Tensor:
        """A draw whose first `lengths` (*batch,) steps are those of value (*batch, T, x_dim), its
        steps that are missing left out.
        """
        shape, known = continued_shape(self, value), first_steps(lengths, self.model.length)
        ends = self.model.filtered(value, self.controls, lengths, self.observed)
        means = ends.means.expand(*shape, -1, -1)
        states = means + times(torch.linalg.cholesky(ends.covariances), torch.randn_like(means))
        prior = self.model.prior.along(self.controls, self.lengths)
        z = prior.continued(states, lengths)
        x = Steps(self.model.emission, self.model.length).along(z, self.lengths)
        return x.continued(cleared(value, known), lengths)

    def log_prob(self, value: Tensor) -> Tensor:
        check_path(value.shape, self.event_shape)
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
        if controls is not None:
            random = mask_of(lengths, self.length)
            controls = cleared(controls, random, len(self.prior.context_shape) - 1)
        system = system_of(self.prior, self.emission, controls)
        mask = mask_of(lengths, self.length, observed)
        found = kalman_filter(system, cleared(x, mask), mask)
        ends = None if lengths is None else mask_of(lengths - 1, self.length)  # false at the end
        return _Posterior(*backward(system, found, ends), lengths, batch)

    def _sizes(self) -> tuple[str, ...]:
        return (repr(self.prior), type(self.emission).__name__)


class _Posterior(OfSteps, TorchDistribution):
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
        return _Posterior(*parts, torch.Size(check_expanded(self.batch_shape, batch_shape)))

    def rsample(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        noise = torch.randn(shape, dtype=self.offsets.dtype, device=self.offsets.device)
        return self._path(self.offsets + times(self.scales, noise))

    def log_prob(self, value: Tensor) -> Tensor:
        check_path(value.shape, self.event_shape)
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
