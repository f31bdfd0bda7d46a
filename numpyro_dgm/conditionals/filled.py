"""Entries of which some are known, as a distribution of all."""

from typing import Any, ClassVar

import jax.numpy as jnp
from jax import Array
from numpyro.distributions import Distribution, constraints

__all__: list[str] = []


class Filled(Distribution):
    """Independent entries, of which some are known: these are what they are in every draw and
    count nothing.

    Args:
        entries: the distribution of each entry by itself, of batch shape (*batch, *event).
        known: of bool, value: what is known where this is true; both broadcast to (*batch, *event).
        event_dim: .
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(self, entries: Any, known: Array, value: Array, event_dim: int) -> None:
        self.entries, self.known, self.value = entries, known, value
        split = len(entries.batch_shape) - event_dim
        shapes = entries.batch_shape[:split], entries.batch_shape[split:]
        super().__init__(*shapes, validate_args=False)

    @property
    def has_rsample(self) -> bool:
        """Whether gradients pass through draws."""
        return self.entries.has_rsample

    @property
    def support(self) -> constraints.Constraint:
        """That of the entries."""
        return constraints.independent(self.entries.support, len(self.event_shape))

    @property
    def mean(self) -> Array:
        """Of unknown entries; what is known elsewhere."""
        return self._filled(self.entries.mean)

    @property
    def variance(self) -> Array:
        """Of unknown entries; zero elsewhere."""
        return jnp.where(self.known, 0.0, self.entries.variance)

    def expand(self, batch_shape: tuple[int, ...]) -> "Filled":
        """The same with a larger batch shape."""
        entries = self.entries.expand((*batch_shape, *self.event_shape))
        return Filled(entries, self.known, self.value, len(self.event_shape))

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draws (*sample_shape, *batch, *event)."""
        return self._filled(self.entries.sample(key, sample_shape))

    def log_prob(self, value: Array, intermediates: Any = None) -> Array:
        """The sum over unknown entries."""
        each = jnp.where(self.known, 0.0, self.entries.log_prob(value))
        return each.sum(range(-self.event_dim, 0))

    def _filled(self, x: Array) -> Array:
        return jnp.where(self.known, self.value.astype(x.dtype), x)
