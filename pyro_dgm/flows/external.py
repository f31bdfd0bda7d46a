"""Flows of other libraries as conditionals: any zuko flow in Pyro, any FlowJAX distribution in
NumPyro.
"""

from typing import Any, ClassVar

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor, nn

from pyro_dgm.conditionals import Conditional

__all__ = ["ExternalFlow"]


class ExternalFlow(Conditional):
    """A flow of another library, wherever a conditional is accepted: in Pyro a zuko flow, in
    NumPyro a FlowJAX distribution.

    Args: flow, the other library's object; dim, the size of its values; context_dim (0 =
        unconditional).
    Shapes: context (*batch, context_dim) -> batch_shape (*batch,), event_shape (dim,).
    Cost: the other library's, which inverts an autoregressive flow in dim passes.
    Raises: ValueError if the flow is not what it must be, or its sizes are others.

    >>> import zuko
    >>> flow = ExternalFlow(zuko.flows.NSF(2, context=3), 2, context_dim=3)
    >>> flow(torch.zeros(5, 3)).log_prob(torch.zeros(2)).shape
    torch.Size([5])
    """

    def __init__(self, flow: Any, dim: int, *, context_dim: int = 0) -> None:
        super().__init__(dim, context_dim=context_dim)
        if not isinstance(flow, nn.Module):
            raise ValueError(
                f"flow must be a zuko flow, such as zuko.flows.NSF({dim}, "
                f"context={context_dim}), got {flow!r}."
            )
        self.flow = flow
        with torch.no_grad():
            like = next(flow.parameters(), torch.zeros(()))
            try:
                distribution = flow(torch.zeros(context_dim).to(like) if context_dim else None)
                found = tuple(distribution.event_shape)
                distribution.log_prob(torch.zeros(found).to(like))
            except Exception as error:
                raise ValueError(
                    f"The flow does not take a context of {context_dim} entries: {error}."
                ) from error
        if found != self.event_shape:
            raise ValueError(f"The flow must give values of shape {self.event_shape}, got {found}.")

    def condition(self, context: Tensor | None) -> TorchDistribution:
        """The distribution given a checked context."""
        return _External(self.flow(context))


class _External(TorchDistribution):
    """What Pyro asks of a distribution, for one that is torch's only: a support, scoring a draw
    from what the draw has left.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    has_rsample = True

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self._drawn: tuple[Tensor, Tensor, bool] | None = None
        super().__init__(inner.batch_shape, inner.event_shape, validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        return constraints.independent(constraints.real, len(self.event_shape))

    def expand(self, batch_shape: tuple[int, ...], _instance: None = None) -> "_External":
        return _External(self.inner.expand(torch.Size(batch_shape)))

    def rsample(self, sample_shape: tuple[int, ...] = ()) -> Tensor:
        x, log_prob = self.inner.rsample_and_log_prob(torch.Size(sample_shape))
        self._drawn = x, log_prob, torch.is_grad_enabled()
        return x

    def sample(self, sample_shape: tuple[int, ...] = ()) -> Tensor:
        with torch.no_grad():
            return self.rsample(sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        if (
            self._drawn is not None
            and value is self._drawn[0]
            and (self._drawn[2] or not torch.is_grad_enabled())
        ):
            return self._drawn[1]
        return self.inner.log_prob(
            value.expand(torch.broadcast_shapes(value.shape, self.batch_shape + self.event_shape))
        )
