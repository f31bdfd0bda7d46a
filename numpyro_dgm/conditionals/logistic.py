"""The standard logistic distribution."""

from typing import Any

import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array

from dgm_core.contexts import ContextShape
from numpyro_dgm.conditionals.base import Conditional
from numpyro_dgm.nn.contexts import batch_shape_of, one_for


class StandardLogistic(Conditional):
    """The standard logistic distribution:  z_i ~ Logistic(0, 1), independent, the distribution of
    logit U for a uniform U.

    The noise under flows that are made of distribution functions, such as `MixtureCDF`.

    Args:
        dim: a size or a shape.
        context_shape: a context gives the batch shape and nothing else.

    Shapes:
        context (*batch, *context_shape) -> batch_shape (*batch,), event_shape (dim,).

    Example:
        >>> round(StandardLogistic(2)().log_prob(jnp.zeros(2)).item(), 4)
        -2.7726
    """

    def __init__(
        self,
        dim: int | tuple[int, ...],
        *,
        context_shape: ContextShape = 0,
        key: Array | None = None,
    ) -> None:
        super().__init__(dim, context_shape=context_shape)

    def condition(self, context: Any) -> dist.Distribution:
        """The distribution given a checked context."""
        batch_shape = batch_shape_of(context, self.context_shape)
        one = one_for(context)
        standard = _Logistic(0 * one, one).expand((*batch_shape, *self.event_shape))
        return standard.to_event(len(self.event_shape))


class _Logistic(dist.Logistic):
    """NumPyro's, with draws of the type of its parameters."""

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        return super().sample(key, sample_shape).astype(jnp.result_type(self.loc, self.scale))
