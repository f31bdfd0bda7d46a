"""A mixture of normal distributions whose draws have pathwise gradients."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import logsumexp
from numpyro.distributions import Categorical, Distribution, Normal, constraints

__all__: list[str] = []  # for the package, not for users


class ExpertMixture(Distribution):
    """sum_s w_s N(loc_s, scale_s^2) with constant weights, so that draws have pathwise gradients:
    a draw is that of a component, and which one does not depend on parameters.

    Args:
        loc, scale: (*batch, S, *event).
        log_weights: (*batch, S), which sum to one.
        event_dim: of a value.
        k: the component that draws are from, (*batch,); None: each draws its own. The density is
            that of the mixture in both cases.
    """

    pytree_data_fields = ("loc", "scale", "log_weights", "k")
    reparametrized_params = ("loc", "scale")
    has_rsample = True

    def __init__(
        self,
        loc: Array,
        scale: Array,
        log_weights: Array,
        event_dim: int,
        k: Array | None = None,
    ) -> None:
        self.loc, self.scale, self.log_weights, self.k = loc, scale, log_weights, k
        batch = log_weights.shape[:-1] if k is None else jnp.shape(k)
        event = loc.shape[loc.ndim - event_dim :]
        super().__init__(batch, event, validate_args=False)

    @property
    def support(self) -> Any:
        """All real values."""
        dim = len(self.event_shape)
        return (
            constraints.real_vector if dim == 1 else constraints.independent(constraints.real, dim)
        )

    @property
    def index(self) -> Distribution:
        """The distribution of the component that a draw is from."""
        return Categorical(logits=self.log_weights)

    def at(self, k: Array) -> "ExpertMixture":
        """The same with draws from the components k (*batch,) alone."""
        return ExpertMixture(self.loc, self.scale, self.log_weights, len(self.event_shape), k)

    @property
    def mean(self) -> Array:
        """The mean of the components' means."""
        weights = jnp.exp(self.log_weights)[(..., *[None] * len(self.event_shape))]
        mean = (weights * self.loc).sum(-1 - len(self.event_shape))
        return jnp.broadcast_to(mean, self.batch_shape + self.event_shape)

    def expand(self, batch_shape: Any) -> "ExpertMixture":
        """The same distribution with a larger batch shape."""
        batch, kept = tuple(batch_shape), 1 + len(self.event_shape)
        loc, scale = (
            jnp.broadcast_to(x, batch + x.shape[x.ndim - kept :]) for x in (self.loc, self.scale)
        )
        log_weights = jnp.broadcast_to(self.log_weights, batch + self.log_weights.shape[-1:])
        k = None if self.k is None else jnp.broadcast_to(self.k, batch)
        return ExpertMixture(loc, scale, log_weights, len(self.event_shape), k)

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> Array:
        """(*sample_shape, *batch, *event)."""
        shape = tuple(sample_shape) + self.batch_shape
        keys = jax.random.split(key)
        if self.k is None:
            k = jax.random.categorical(keys[0], self.log_weights, shape=shape)
        else:
            k = jnp.broadcast_to(self.k, shape)
        dim = len(self.event_shape)
        index = k[(..., *[None] * (1 + dim))]
        loc, scale = (
            jnp.take_along_axis(
                jnp.broadcast_to(x, shape + x.shape[x.ndim - 1 - dim :]), index, len(shape)
            ).squeeze(len(shape))
            for x in (self.loc, self.scale)
        )
        return loc + scale * jax.random.normal(keys[1], shape + self.event_shape, loc.dtype)

    def log_prob(self, value: Array, intermediates: Any = None) -> Array:
        """log sum_s w_s N(value; loc_s, scale_s^2): (*batch, *event) -> (*batch,)."""
        dim = len(self.event_shape)
        wide = jnp.expand_dims(value, jnp.ndim(value) - dim)
        scores = Normal(self.loc, self.scale, validate_args=False).log_prob(wide)
        scores = scores.reshape(*scores.shape[: scores.ndim - dim], -1).sum(-1) + self.log_weights
        found = logsumexp(scores, -1)
        return jnp.broadcast_to(found, jnp.broadcast_shapes(found.shape, self.batch_shape))
