"""A mixture of normal distributions whose draws have pathwise gradients."""

from math import log, pi
from typing import Any, ClassVar

import torch
from pyro.distributions import Categorical, TorchDistribution, constraints
from torch import Tensor
from torch.nn.functional import one_hot

__all__: list[str] = []  # for the package, not for users


class ExpertMixture(TorchDistribution):
    """sum_s w_s N(loc_s, scale_s^2) with constant weights, so that draws have pathwise gradients:
    a draw is that of a component, and which one does not depend on parameters.

    Args:
        loc, scale: (*batch, S, *event).
        log_weights: (*batch, S), which sum to one.
        event_dim: of a value.
        k: the component that draws are from, (*batch,); None: each draws its own. The density is
            that of the mixture in both cases.
        batch_shape: of the distribution, where its parameters have fewer cases.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    has_rsample = True

    def __init__(
        self,
        loc: Tensor,
        scale: Tensor,
        log_weights: Tensor,
        event_dim: int,
        k: Tensor | None = None,
        batch_shape: torch.Size | None = None,
    ) -> None:
        self.loc, self.scale, self.log_weights, self.k = loc, scale, log_weights, k
        own = log_weights.shape[:-1] if k is None else k.shape
        batch = own if batch_shape is None else batch_shape
        event = loc.shape[loc.ndim - event_dim :]
        super().__init__(batch, event, validate_args=False)

    @property
    def support(self) -> Any:
        """All real values."""
        dim = len(self.event_shape)
        return (
            constraints.real_vector if dim == 1 else constraints.independent(constraints.real, dim)
        )

    @property
    def index(self) -> TorchDistribution:
        """The distribution of the component that a draw is from."""
        return Categorical(logits=self.log_weights.expand(*self.batch_shape, -1))

    def at(self, k: Tensor) -> "ExpertMixture":
        """The same with draws from the components k (*batch,) alone."""
        return ExpertMixture(self.loc, self.scale, self.log_weights, len(self.event_shape), k)

    @property
    def mean(self) -> Tensor:
        """The mean of the components' means."""
        weights = self.log_weights.exp()[(..., *[None] * len(self.event_shape))]
        mean = (weights * self.loc).sum(-1 - len(self.event_shape))
        return mean.expand(self.batch_shape + self.event_shape)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "ExpertMixture":
        """The same distribution with a larger batch shape."""
        parts = self.loc, self.scale, self.log_weights  # one of each: what is equal is found once
        k = None if self.k is None else self.k.expand(batch_shape)
        return ExpertMixture(*parts, len(self.event_shape), k, torch.Size(batch_shape))

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """(*sample_shape, *batch, *event)."""
        shape = torch.Size(sample_shape) + self.batch_shape
        if self.k is None:
            k = self.index.sample(torch.Size(sample_shape))
        else:
            k = self.k.expand(shape)
        dim = len(self.event_shape)
        chosen = one_hot(k, self.log_weights.shape[-1]).to(self.loc.dtype)
        loc, scale = (
            torch.einsum("...s,...sd->...d", chosen, x.flatten(-dim)).unflatten(
                -1, self.event_shape
            )
            for x in (self.loc, self.scale)
        )
        noise = torch.randn(shape + self.event_shape, dtype=loc.dtype, device=loc.device)
        return loc + scale * noise

    def log_prob(self, value: Tensor) -> Tensor:
        """log sum_s w_s N(value; loc_s, scale_s^2): (*batch, *event) -> (*batch,)."""
        dim = len(self.event_shape)
        wide = value.unsqueeze(value.ndim - dim)
        deviation = ((wide - self.loc) * self.scale.reciprocal()).flatten(-dim)
        size = 0.5 * log(2 * pi) * deviation.shape[-1]
        constant = self.log_weights - self.scale.log().flatten(-dim).sum(-1) - size
        scores = constant - 0.5 * deviation.square().sum(-1)
        return scores.logsumexp(-1).expand(
            torch.broadcast_shapes(scores.shape[:-1], self.batch_shape)
        )
