"""Binary data:  x_i ~ Bernoulli(logits = l_i(c))."""

import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array
from jax.nn import sigmoid, softplus

from dgm_core.contexts import ContextShape
from numpyro_dgm.conditionals.base import Parametric, size_of
from numpyro_dgm.nn.requirements import known_wrong


class Bernoulli(Parametric):
    """Independent binary entries:  x_i ~ Bernoulli(sigmoid(l_i(c))),  log p(x) = sum_i x_i l_i -
    softplus(l_i).

    Args:
        dim: a size or a shape.
        context_shape: 0 = free parameters.

    Shapes:
        context (*batch, *context_shape) -> batch_shape (*batch,), event_shape (dim,). Values are
        0.0 and 1.0.

    Raises:
        with validation on, ValueError for gray values; binarize the data or use
        `ContinuousBernoulli`.

    Example:
        >>> round(Bernoulli(2)().log_prob(jnp.array([0.0, 1.0])).item(), 4)
        -1.3863
    """

    def __init__(
        self,
        dim: int | tuple[int, ...],
        *,
        context_shape: ContextShape = 0,
        key: Array | None = None,
    ) -> None:
        super().__init__(dim, size_of(dim), context_shape=context_shape, key=key)

    def build(self, raw: Array) -> dist.Distribution:
        """The distribution with parameters `raw` (*batch, num_params)."""
        (logits,) = self.split(raw)
        return _Bernoulli(logits=logits).to_event(len(self.event_shape))


class _Bernoulli(dist.BernoulliLogits):
    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        return super().sample(key, sample_shape).astype(jnp.result_type(self.logits))

    def _validate_sample(self, value: Array) -> Array:
        inside = (value == 0) | (value == 1)
        if known_wrong(inside):
            raise ValueError(
                "Bernoulli expects values 0 and 1, got others (gray levels or NaN); binarize the "
                "data, use the likelihood ContinuousBernoulli or switch validation off."
            )
        return inside

    def log_prob(self, value: Array) -> Array:
        unknown = jnp.isnan(self.logits) | (value != value)  # certain or impossible to the engine
        return jnp.where(unknown, jnp.nan, super().log_prob(value))

    def entropy(self) -> Array:
        l = self.logits
        return sigmoid(l) * softplus(-l) + sigmoid(-l) * softplus(l)

    @property
    def variance(self) -> Array:
        return sigmoid(self.logits) * sigmoid(-self.logits)
