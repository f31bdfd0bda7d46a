"""Sites that are scored by a bound on their log-density."""

from collections.abc import Mapping
from typing import Any

from pyro.distributions import ExpandedDistribution, Independent, MaskedDistribution
from pyro.distributions import TorchDistribution as Base
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import Message
from torch import Tensor

from dgm_core.terms import no_bound
from pyro_dgm.compat import mask_of

__all__: list[str] = []  # for the package, not for users


class Bounded(Messenger):
    """Gives the sites named distributions whose `log_prob` is an estimate of their bound."""

    def __init__(self, names: Mapping[str, Mapping[str, Any]]) -> None:
        super().__init__()
        self.names = names

    def _pyro_sample(self, msg: Message) -> None:
        if msg["name"] in self.names:
            msg["fn"] = by_bound(msg["fn"], msg["name"], self.names[msg["name"]])


def by_bound(fn: Any, name: str, options: Mapping[str, Any]) -> Any:
    """The same distribution, scored by its bound."""
    if hasattr(fn, "bound"):
        return BoundedDistribution(fn, options)
    if isinstance(fn, Independent):
        return by_bound(fn.base_dist, name, options).to_event(fn.reinterpreted_batch_ndims)
    if isinstance(fn, MaskedDistribution):
        return by_bound(fn.base_dist, name, options).mask(mask_of(fn))
    if isinstance(fn, ExpandedDistribution):
        return by_bound(fn.base_dist, name, options).expand(fn.batch_shape)
    raise ValueError(no_bound(name, type(fn).__name__))


class BoundedDistribution(Base):
    """A distribution whose `log_prob` is an estimate of a bound on its log-density."""

    arg_constraints: dict = {}  # noqa: RUF012

    def __init__(self, base: Any, options: Mapping[str, Any]) -> None:
        self.base, self.options = base, dict(options)
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    @property
    def has_rsample(self) -> bool:
        """As the distribution itself."""
        return self.base.has_rsample

    @property
    def support(self) -> Any:
        """That of the distribution."""
        return self.base.support

    def expand(self, batch_shape: Any, _instance: None = None) -> "BoundedDistribution":
        """The same distribution with a larger batch shape."""
        return BoundedDistribution(self.base.expand(batch_shape), self.options)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws of the distribution."""
        return self.base.sample(sample_shape)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draws with gradients, where it has them."""
        return self.base.rsample(sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """The estimate."""
        return self.base.bound(value, **self.options)
