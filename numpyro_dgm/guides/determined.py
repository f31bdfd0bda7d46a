"""The distribution of a value that follows from what was drawn before."""

from typing import Any

import jax.numpy as jnp
from jax import Array
from numpyro.distributions import Delta

__all__ = ["Determined"]


class Determined(Delta):
    """A value z = f(u) that is determined by an earlier draw u, with the log-density that it
    brings: -log |det df/du|.

    A `Delta` without the test for equality: a value that is computed again, and differs in its last
    bits, has the same log-density.

    Args:
        v: the value.
        log_density: (*batch,).
        event_dim: how many of its dimensions are one event.

    Example:
        >>> float(Determined(jnp.zeros(3), 1.5, event_dim=1).log_prob(jnp.ones(3)))
        1.5
    """

    def log_prob(self, value: Any) -> Array:
        """The log-density, whatever the value."""
        return jnp.broadcast_to(self.log_density, self.batch_shape)
