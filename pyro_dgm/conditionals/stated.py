"""What a program is given and does not model, as a distribution."""

from typing import ClassVar

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor

__all__: list[str] = []


class Stated(TorchDistribution):
    """What a model is given and does not model: every draw is the value itself, which counts
    nothing, log p = 0. As a site it is there to be compared, by a critic for instance.

    Args:
        value: (*batch, *event).
        event_dim: .
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    has_rsample = True

    def __init__(self, value: Tensor, event_dim: int) -> None:
        self.value, split = value, value.ndim - event_dim
        super().__init__(value.shape[:split], value.shape[split:], validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """All real arrays."""
        return constraints.independent(constraints.real, len(self.event_shape))

    @property
    def mean(self) -> Tensor:
        """The value."""
        return self.value

    def expand(self, batch_shape: torch.Size, _instance: None = None) -> "Stated":
        """The same with a larger batch shape."""
        return Stated(self.value.expand(*batch_shape, *self.event_shape), len(self.event_shape))

    def rsample(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> Tensor:
        """The value (*sample_shape, *batch, *event)."""
        return self.value.expand(*sample_shape, *self.value.shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Zeros."""
        batch = torch.broadcast_shapes(value.shape[: value.ndim - self.event_dim], self.batch_shape)
        return torch.zeros(batch, dtype=self.value.dtype, device=self.value.device)
