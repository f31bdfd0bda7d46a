"""The mixture of one conditional at many contexts:  p(z) = sum_k w_k p(z | c_k)."""

from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpyro.distributions import Distribution

from dgm_core.priors import block_length

__all__: list[str] = []  # for the package, not for users


class Mixture(Distribution):
    """The mixture of `component(contexts)`, of batch shape (K,), with log-weights (*batch, K).

    Its density has gradients in everything; a draw picks a component, so it is not
    reparameterized. Densities are computed for as many components at once as fit; where these are
    not all, gradients compute them again.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    pytree_data_fields = ("component", "contexts", "log_weights")
    has_rsample = False

    def __init__(
        self,
        component: Callable[[Array], Distribution],
        contexts: Array,
        log_weights: Array,
        event_shape: tuple[int, ...],
    ) -> None:
        self.component, self.contexts, self.log_weights = component, contexts, log_weights
        super().__init__(log_weights.shape[:-1], tuple(event_shape), validate_args=False)

    @property
    def support(self) -> Any:
        """That of a component."""
        return self.component(self.contexts[0]).support

    @property
    def mean(self) -> Array:
        """The mean of the components' means."""
        means = self.component(self.contexts).mean
        means = means.reshape(len(self.contexts), -1)
        return (jnp.exp(self.log_weights) @ means).reshape(*self.batch_shape, *self.event_shape)

    def expand(self, batch_shape: tuple[int, ...]) -> "Mixture":
        """The same distribution with a larger batch shape."""
        log_weights = jnp.broadcast_to(self.log_weights, (*batch_shape, len(self.contexts)))
        return Mixture(self.component, self.contexts, log_weights, self.event_shape)

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draws without gradient, each from its own component."""
        keys = jax.random.split(key)
        shape = (*sample_shape, *self.batch_shape)
        index = jax.random.categorical(keys[0], self.log_weights, shape=shape)
        return jax.lax.stop_gradient(self.component(self.contexts[index]).sample(keys[1]))

    def log_prob(self, value: Array, intermediates: Any = None) -> Array:
        """log sum_k w_k p(value | c_k): (*batch, *event) -> (*batch,)."""
        split = jnp.ndim(value) - len(self.event_shape)
        length = block_length(len(self.contexts), np.size(value))
        if length == len(self.contexts):
            scores = self.component(self.contexts).log_prob(jnp.expand_dims(value, split))
        else:
            score = jax.checkpoint(lambda context: self.component(context).log_prob(value))
            scores = jax.lax.map(score, self.contexts, batch_size=length)
            scores = jnp.moveaxis(scores, 0, -1)
        return jax.nn.logsumexp(scores + self.log_weights, -1)
