"""The distribution of a value that follows from what was drawn before."""

from typing import Any

from pyro.distributions import Delta
from torch import Tensor
from torch.distributions import Distribution, register_kl

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
        >>> float(Determined(torch.zeros(3), 1.5, event_dim=1).log_prob(torch.ones(3)))
        1.5
    """

    def log_prob(self, value: Tensor) -> Tensor:
        """The log-density, whatever the value."""
        return self.log_density.expand(self.batch_shape)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "Determined":
        """The same with a larger batch shape."""
        shape = tuple(batch_shape)
        value = self.v.expand(*shape, *self.event_shape)
        density = self.log_density.expand(shape)
        return Determined(value, density, len(self.event_shape), validate_args=False)


@register_kl(Determined, Distribution)
def _kl(q: Determined, p: Distribution) -> Tensor:
    return q.log_density - p.log_prob(q.v)
