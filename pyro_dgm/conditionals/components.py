"""The mixture of one conditional at many contexts:  p(z) = sum_k w_k p(z | c_k)."""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from dgm_core.priors import block_length

__all__: list[str] = []  # for the package, not for users


class Mixture(TorchDistribution):
    """The mixture of `component(contexts)`, of batch shape (K,), with log-weights (*batch, K).

    Its density has gradients in everything; a draw picks a component, so it is not
    reparameterized. Densities are computed for as many components at once as fit; where these are
    not all, gradients compute them again.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    has_rsample = False

    def __init__(
        self,
        component: Callable[[Tensor], TorchDistribution],
        contexts: Tensor,
        log_weights: Tensor,
        event_shape: tuple[int, ...],
    ) -> None:
        self.component, self.contexts, self.log_weights = component, contexts, log_weights
        super().__init__(log_weights.shape[:-1], torch.Size(event_shape), validate_args=False)

    @property
    def support(self) -> Any:
        """That of a component."""
        return self.component(self.contexts[0]).support

    @property
    def mean(self) -> Tensor:
        """The mean of the components' means."""
        means = self.component(self.contexts).mean.flatten(1)
        return (self.log_weights.exp() @ means).unflatten(-1, self.event_shape)

    def expand(self, batch_shape: torch.Size, _instance: None = None) -> "Mixture":
        """The same distribution with a larger batch shape."""
        log_weights = self.log_weights.expand(*batch_shape, -1)
        return Mixture(self.component, self.contexts, log_weights, self.event_shape)

    def sample(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> Tensor:
        """Draws without gradient, each from its own component."""
        with torch.no_grad():
            index = torch.distributions.Categorical(
                logits=self.log_weights, validate_args=False
            ).sample(torch.Size(sample_shape))
            return self.component(self.contexts[index]).sample()

    def log_prob(self, value: Tensor) -> Tensor:
        """log sum_k w_k p(value | c_k): (*batch, *event) -> (*batch,)."""
        split = value.ndim - len(self.event_shape)
        length = block_length(len(self.contexts), value.numel())
        parts, values = [], value.unsqueeze(split)
        for start in range(0, len(self.contexts), length):
            contexts = self.contexts[start : start + length]
            if length < len(self.contexts) and torch.is_grad_enabled():
                parts.append(checkpoint(self._scores, contexts, values, use_reentrant=False))
            else:
                parts.append(self._scores(contexts, values))
        scores = parts[0] if len(parts) == 1 else torch.cat(parts, -1)
        return (scores + self.log_weights).logsumexp(-1)

    def _scores(self, contexts: Tensor, values: Tensor) -> Tensor:
        """The log-densities of values (*batch, 1, *event) in components: (*batch, K)."""
        return self.component(contexts).log_prob(values)
