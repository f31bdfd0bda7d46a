"""What a program is given and does not model, as a distribution."""

from typing import Any, ClassVar

import jax.numpy as jnp
from jax import Array
from numpyro.distributions import Distribution, constraints

__all__: list[str] = []


class Stated(Distribution):
    """What a model is given and does not model: every draw is the value itself, which counts
    nothing, log p = 0. As a site it is there to be compared, by a critic for instance.

    Args:
        value: (*batch, *event).
        event_dim: .
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    has_rsample = True

    def __init__(self, value: Array, event_dim: int) -> None:
        self.value, split = value, value.ndim - event_dim
        super().__init__(value.shape[:split], value.shape[split:], validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """All real arrays."""
        return constraints.independent(constraints.real, len(self.event_shape))

    @property
    def mean(self) -> Array:
        """The value."""
        return self.value

    def expand(self, batch_shape: tuple[int, ...]) -> "Stated":
        """The same with a larger batch shape."""
        value = jnp.broadcast_to(self.value, (*batch_shape, *self.event_shape))
        return Stated(value, len(self.event_shape))

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        """The value (*sample_shape, *batch, *event)."""
        return jnp.broadcast_to(self.value, (*sample_shape, *self.value.shape))

    def log_prob(self, value: Array, intermediates: Any = None) -> Array:
        """Zeros."""
        batch = value.shape[: value.ndim - self.event_dim]
        return jnp.zeros(jnp.broadcast_shapes(batch, self.batch_shape), self.value.dtype)
