"""Entries of which some are known, as a distribution of all."""

from typing import Any, ClassVar

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor

__all__: list[str] = []


class Filled(TorchDistribution):
    """Independent entries, of which some are known: these are what they are in every draw and
    count nothing.

    Args:
        entries: the distribution of each entry by itself, of batch shape (*batch, *event).
        known: of bool, value: what is known where this is true; both broadcast to (*batch, *event).
        event_dim: .
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}

    def __init__(self, entries: Any, known: Tensor, value: Tensor, event_dim: int) -> None:
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
    def mean(self) -> Tensor:
        """Of unknown entries; what is known elsewhere."""
        return self._filled(self.entries.mean)

    @property
    def variance(self) -> Tensor:
        """Of unknown entries; zero elsewhere."""
        return torch.where(self.known, 0.0, self.entries.variance)

    def expand(self, batch_shape: torch.Size, _instance: None = None) -> "Filled":
        """The same with a larger batch shape."""
        entries = self.entries.expand(torch.Size(batch_shape) + self.event_shape)
        return Filled(entries, self.known, self.value, len(self.event_shape))

    def rsample(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> Tensor:
        """Draws (*sample_shape, *batch, *event)."""
        return self._filled(self.entries.rsample(torch.Size(sample_shape)))

    def sample(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> Tensor:
        """The same without gradients."""
        return self._filled(self.entries.sample(torch.Size(sample_shape)))

    def log_prob(self, value: Tensor) -> Tensor:
        """The sum over unknown entries."""
        each = torch.where(self.known, 0.0, self.entries.log_prob(value))
        return each.flatten(-self.event_dim).sum(-1)

    def _filled(self, x: Tensor) -> Tensor:
        return torch.where(self.known, self.value.to(x.dtype), x)
