"""Flows of other libraries as conditionals: any zuko flow in Pyro, any FlowJAX distribution in
NumPyro.
"""

from typing import Any, ClassVar

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor, nn
from torch.distributions import Distribution

from dgm_core.contexts import ContextShape, context_size
from pyro_dgm.conditionals import Conditional
from pyro_dgm.conditionals.drawn import Drawn

__all__ = ["ExternalFlow"]


class ExternalFlow(Conditional):
    """A flow of another library, wherever a conditional is accepted: in Pyro a zuko flow, in
    NumPyro a FlowJAX distribution.

    Args:
        flow: the other library's object.
        dim: the size of its values.
        context_shape: 0 = unconditional.
        support: of its values (None: what the flow says, else all real vectors).

    Shapes:
        context (*batch, *context_shape) -> batch_shape (*batch,), event_shape (dim,).

    Cost:
        the other library's, which inverts an autoregressive flow in dim passes.

    Raises:
        ValueError: if the flow is not what it must be, its sizes are others, it cannot be drawn
            from, or its support is not known; mixtures give draws without gradients.

    Example:
        >>> import zuko
        >>> flow = ExternalFlow(zuko.flows.NSF(2, context=3), 2, context_shape=3)
        >>> flow(torch.zeros(5, 3)).log_prob(torch.zeros(2)).shape
        torch.Size([5])
    """

    def __init__(
        self,
        flow: Any,
        dim: int,
        *,
        context_shape: ContextShape = 0,
        support: constraints.Constraint | None = None,
    ) -> None:
        super().__init__(dim, context_shape=context_shape)
        entries = context_size(context_shape)
        if not isinstance(flow, nn.Module):
            raise ValueError(
                f"flow must be a zuko flow, such as zuko.flows.NSF({dim}, "
                f"context={entries}), got {flow!r}."
            )
        self.flow, self.given_support = flow, support
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            like = next(flow.parameters(), torch.zeros(()))
            try:
                distribution = flow(torch.zeros(entries).to(like) if entries else None)
                found = tuple(distribution.event_shape)
                distribution.log_prob(torch.zeros(found).to(like))
            except Exception as error:
                raise ValueError(
                    f"The flow does not take a context of {entries} entries: {error}."
                ) from error
            if found != self.event_shape:
                raise ValueError(
                    f"The flow must give values of shape {self.event_shape}, got {found}."
                )
            try:
                _External(distribution, None).sample()
            except Exception as error:
                raise ValueError(f"The flow cannot be drawn from: {error!r}.") from error
            self.wraps = support is None and _wraps(distribution)

    def condition(self, context: Any) -> TorchDistribution:
        """The distribution given a checked context."""
        inner = self.flow(None if context is None else self.flat(context))
        return _External(inner, _support(inner.base) if self.wraps else self.given_support)


class _External(TorchDistribution):
    """What Pyro asks of a distribution, for one that is torch's only: a support, scoring a draw
    from what the draw has left.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    keeps_draws = True

    def __init__(self, inner: Any, support: constraints.Constraint | None) -> None:
        self.inner, self.given_support = inner, support
        self._drawn: Drawn | None = None
        checked = None if support is not None else False
        super().__init__(inner.batch_shape, inner.event_shape, validate_args=checked)

    @property
    def has_rsample(self) -> bool:
        return _is_reparameterized(self.inner)

    @property
    def support(self) -> constraints.Constraint:
        real = constraints.independent(constraints.real, len(self.event_shape))
        return self.given_support or _support(self.inner) or real

    def expand(self, batch_shape: tuple[int, ...], _instance: None = None) -> "_External":
        return _External(self.inner.expand(torch.Size(batch_shape)), self.given_support)

    def rsample(self, sample_shape: tuple[int, ...] = ()) -> Tensor:
        shape = torch.Size(sample_shape)
        if hasattr(self.inner, "rsample_and_log_prob"):
            x, log_prob = self.inner.rsample_and_log_prob(shape)
        else:
            x = (self.inner.rsample if self.inner.has_rsample else self.inner.sample)(shape)
            log_prob = self.inner.log_prob(x)
        self._drawn = Drawn(x, log_prob)
        return x

    def sample(self, sample_shape: tuple[int, ...] = ()) -> Tensor:
        with torch.no_grad():
            return self.rsample(sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._drawn and (known := self._drawn.score(value)) is not None:
            return known
        value = value.expand(
            torch.broadcast_shapes(value.shape, self.batch_shape + self.event_shape)
        )
        if self._validate_args:
            self._validate_sample(value)
        return self.inner.log_prob(value)


def _is_reparameterized(distribution: Any) -> bool:
    """Whether gradients pass through all of a draw: what it is made from must say so as well."""
    parts = [
        part
        for value in vars(distribution).values()
        for part in (value if isinstance(value, list | tuple) else [value])
        if isinstance(part, Distribution)
    ]
    return bool(distribution.has_rsample) and all(map(_is_reparameterized, parts))


def _support(distribution: Any) -> constraints.Constraint | None:
    """The support that a distribution, its transform or its components name."""
    try:
        return distribution.support
    except NotImplementedError:
        if hasattr(distribution, "transform"):
            return distribution.transform.domain
        return _support(distribution.base) if hasattr(distribution, "base") else None


def _wraps(distribution: Any) -> bool:
    """Whether values outside the noise's bounded support are mapped as if they were inside, as a
    circular flow does, of which the noise's support is the support.
    """
    base = getattr(distribution, "base", None)
    bounds: Any = base and _support(base)
    while isinstance(bounds, constraints.independent):
        bounds = bounds.base_constraint
    if not hasattr(distribution, "transform") or not hasattr(bounds, "upper_bound"):
        return False
    outside = bounds.upper_bound + 0.3 * (bounds.upper_bound - bounds.lower_bound)
    back = distribution.transform.inv(distribution.transform(outside))
    return not torch.allclose(back, outside, rtol=1e-2)
