"""Linear-Gaussian state-space models: the exact evidence (Kalman filter) and the exact posterior
(Kalman smoother), as conditionals of whole sequences.

z_1 ~ Normal(m_1, P_1);  z_t ~ Normal(F z_{t-1} + b_t, Q);  x_t ~ Normal(H z_t + d, R).
"""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array
from numpyro.distributions import Distribution, constraints

from dgm_core.contexts import check_expanded
from dgm_core.paths import check_path
from numpyro_dgm.conditionals.base import Conditional
from numpyro_dgm.conditionals.paths.base import (
    ObservedPath,
    OfSteps,
    batch_of,
    cleared,
    continued_shape,
    first_steps,
    mask_of,
    total,
)
from numpyro_dgm.conditionals.paths.linear_system import (
    Filtered,
    backward,
    check_linear,
    kalman_filter,
    system_of,
    times,
)
from numpyro_dgm.conditionals.paths.markov import Markov
from numpyro_dgm.conditionals.paths.steps import Steps

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
        >>> from numpyro_dgm.conditionals import LinearNormal, Markov, StandardNormal
        >>> key = jax.random.key(0)
        >>> step = LinearNormal(2, context_shape=2, key=key)
        >>> chain = Markov(step, 7, initial=StandardNormal(2))
        >>> emission = LinearNormal(1, context_shape=2, key=key)
        >>> LinearGaussian(chain, emission)().sample(key, (5,)).shape
        (5, 7, 1)
    """

    prior: Markov
    emission: Conditional

    def __init__(self, prior: Markov, emission: Conditional) -> None:
        check_linear(prior, emission)
        super().__init__(prior.length, emission.event_shape, context_shape=prior.context_shape)
        self.prior, self.emission = prior, emission

    def along(
        self, context: Any, lengths: Array | None, observed: Array | None = None
    ) -> "_Evidence":
        """The distribution given checked control inputs, lengths and mask."""
        batch = batch_of(context, self.context_shape, lengths, observed)
        return _Evidence(self, context, lengths, observed, batch)

    def filtered(
        self, x: Array, context: Any = None, lengths: Any = None, observed: Array | None = None
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


class _Evidence(OfSteps, Distribution):
    """The paths x of a linear-Gaussian model."""

    arg_constraints: ClassVar[dict[str, Any]] = {}
    pytree_data_fields = ("model", "controls", "lengths", "observed")
    support = constraints.independent(constraints.real, 2)
    has_rsample = True

    def __init__(
        self,
        model: LinearGaussian,
        controls: Array | None,
        lengths: Array | None,
        observed: Array | None,
        batch_shape: tuple[int, ...],
    ) -> None:
        self.model, self.controls = model, controls
        self.lengths, self.observed = lengths, observed
        super().__init__(batch_shape, model.event_shape, validate_args=False)

    def expand(self, batch_shape: tuple[int, ...]) -> "_Evidence":
        return _Evidence(
            self.model,
            self.controls,
            self.lengths,
            self.observed,
            check_expanded(self.batch_shape, batch_shape),
        )

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        states, steps = jax.random.split(key)
        prior = self.model.prior.along(self.controls, self.lengths).expand(self.batch_shape)
        z = prior.sample(states, sample_shape)
        return Steps(self.model.emission, self.model.length).along(z, self.lengths).sample(steps)

    def continued(self, key: Array, value: Array, lengths: Array) -> Array:
        """A draw whose first `lengths` (*batch,) steps are those of value (*batch, T, x_dim), its
        steps that are missing left out.
        """
        shape, known = continued_shape(self, value), first_steps(lengths, self.model.length)
        keys = jax.random.split(key, 3)
        ends = self.model.filtered(value, self.controls, lengths, self.observed)
        means = jnp.broadcast_to(ends.means, (*shape, *ends.means.shape[-2:]))
        noise = jax.random.normal(keys[0], means.shape, means.dtype)
        states = means + times(jnp.linalg.cholesky(ends.covariances), noise)
        prior = self.model.prior.along(self.controls, self.lengths)
        z = prior.continued(keys[1], states, lengths)
        x = Steps(self.model.emission, self.model.length).along(z, self.lengths)
        return x.continued(keys[2], cleared(value, known), lengths)

    def log_prob(self, value: Array) -> Array:
        check_path(jnp.shape(value), self.event_shape)
        found = self.model.filtered(value, self.controls, self.lengths, self.observed)
        shape = jnp.broadcast_shapes(found.log_probs.shape[:-1], self.batch_shape)
        log_probs = jnp.broadcast_to(found.log_probs, (*shape, self.model.length))
        return total(log_probs, self.lengths, self.observed)

    @property
    def mean(self) -> Array:
        model = system_of(self.model.prior, self.model.emission, self.controls)
        state, means = model.first[0], []
        for t in range(self.model.length):
            if t:
                state = times(model.transition, state) + model.offsets[..., t, :]
            means.append(times(model.emission, state) + model.shift)
        mean = jnp.broadcast_to(jnp.stack(means, -2), self.batch_shape + self.event_shape)
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
        >>> from numpyro_dgm.conditionals import LinearNormal, Markov, StandardNormal
        >>> key = jax.random.key(0)
        >>> step = LinearNormal(2, context_shape=2, key=key)
        >>> chain = Markov(step, 7, initial=StandardNormal(2))
        >>> smoother = KalmanSmoother(chain, LinearNormal(1, context_shape=2, key=key))
        >>> smoother(jnp.zeros((5, 7, 1))).sample(key).shape
        (5, 7, 2)
    """

    prior: Markov
    emission: Conditional

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
        self, context: Any, lengths: Array | None, observed: Array | None = None
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


class _Posterior(OfSteps, Distribution):
    """The backward chain z_t ~ Normal(G_t z_{t+1} + c_t, C_t), with C_t = L_t L_t'."""

    arg_constraints: ClassVar[dict[str, Any]] = {}
    pytree_data_fields = ("gains", "offsets", "scales", "lengths")
    support = constraints.independent(constraints.real, 2)
    has_rsample = True

    def __init__(
        self,
        gains: Array,
        offsets: Array,
        scales: Array,
        lengths: Array | None,
        batch_shape: tuple[int, ...],
    ) -> None:
        self.gains, self.offsets, self.scales, self.lengths = gains, offsets, scales, lengths
        super().__init__(batch_shape, offsets.shape[-2:], validate_args=False)

    def expand(self, batch_shape: tuple[int, ...]) -> "_Posterior":
        return _Posterior(
            self.gains,
            self.offsets,
            self.scales,
            self.lengths,
            check_expanded(self.batch_shape, batch_shape),
        )

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        shape = (*sample_shape, *self.batch_shape, *self.event_shape)
        noise = jax.random.normal(key, shape, self.offsets.dtype)
        return self._path(self.offsets + times(self.scales, noise))

    def log_prob(self, value: Array) -> Array:
        check_path(jnp.shape(value), self.event_shape)
        value = cleared(jnp.asarray(value), self._mask)
        value = jnp.broadcast_to(
            value, jnp.broadcast_shapes(value.shape, self.batch_shape + self.event_shape)
        )
        following = jnp.concatenate([value[..., 1:, :], jnp.zeros_like(value[..., :1, :])], -2)
        loc = times(self.gains, following) + self.offsets
        steps = dist.MultivariateNormal(loc, scale_tril=self.scales)
        return total(steps.log_prob(value), self.lengths)

    @property
    def mean(self) -> Array:
        return self._path(jnp.broadcast_to(self.offsets, self.batch_shape + self.event_shape))

    @property
    def covariance_matrix(self) -> Array:
        """Of each step (*batch, T, z_dim, z_dim)."""
        covariance, found = jnp.zeros_like(self.scales[..., 0, :, :]), []
        for t in reversed(range(self.event_shape[0])):
            gain, scale = self.gains[..., t, :, :], self.scales[..., t, :, :]
            covariance = gain @ covariance @ gain.mT + scale @ scale.mT
            found.append(covariance)
        return jnp.stack(found[::-1], -3)

    @property
    def variance(self) -> Array:
        variance = jnp.diagonal(self.covariance_matrix, axis1=-2, axis2=-1)
        variance = jnp.broadcast_to(variance, self.batch_shape + self.event_shape)
        return cleared(variance, self._mask)

    @property
    def _mask(self) -> Array | None:
        return mask_of(self.lengths, self.event_shape[0])

    def _path(self, inputs: Array) -> Array:
        """z_t = G_t z_{t+1} + inputs_t, from the end."""

        def step(state: Array, given: tuple[Array, Array]) -> tuple[Array, Array]:
            state = times(given[0], state) + given[1]
            return state, state

        by_time = jnp.moveaxis(self.gains, -3, 0), jnp.moveaxis(inputs, -2, 0)
        _, path = jax.lax.scan(step, jnp.zeros_like(inputs[..., 0, :]), by_time, reverse=True)
        return cleared(jnp.moveaxis(path, 0, -2), self._mask)
