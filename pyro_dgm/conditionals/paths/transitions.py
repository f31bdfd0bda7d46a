"""Transitions of deep Markov models: of the states themselves, and of a guide that also reads
features of the data.
"""

from math import expm1, log
from typing import Any

import torch
import torch.nn.functional as F
from pyro import distributions as dist
from pyro.distributions import TorchDistribution
from torch import Tensor

from dgm_core.arguments import check_count, check_counts, check_fraction
from pyro_dgm.conditionals.base import Conditional, positive
from pyro_dgm.nn.layers import Linear

__all__ = ["Combiner", "GatedTransition"]


class GatedTransition(Conditional):
    """The gated transition of deep Markov models:  z_t ~ Normal((1 - g) (A z + a) + g m, s),  with
    g = sigmoid(net(z)), m = net'(z), s from relu(m), of z = z_{t-1}.

    A starts as the identity, so that states persist.

    Args:
        z_dim: of a state.
        hidden: units of the two networks.
        min_scale: the smallest s.

    Shapes:
        context z_{t-1} (*batch, z_dim) -> batch_shape (*batch,), event_shape (z_dim,).

    Raises:
        ValueError: for a size below 1.

    References:
        Krishnan, Shalit & Sontag (2017), arXiv:1609.09869, eq. (8).

    Example:
        >>> GatedTransition(2, 8)(torch.zeros(5, 2)).batch_shape
        torch.Size([5])
    """

    def __init__(self, z_dim: int, hidden: int = 200, *, min_scale: float = 1e-4) -> None:
        z_dim, hidden = check_counts(z_dim=z_dim, hidden=hidden)
        super().__init__(z_dim, context_shape=z_dim)
        self.floor = check_fraction("min_scale", min_scale)
        self.gate_in, self.gate_out = Linear(z_dim, hidden), Linear(hidden, z_dim)
        self.proposal_in, self.proposal_out = Linear(z_dim, hidden), Linear(hidden, z_dim)
        self.linear, self.scale = Linear(z_dim, z_dim), Linear(z_dim, z_dim)
        with torch.no_grad():
            self.linear.weight.copy_(torch.eye(z_dim))
            self.linear.bias.zero_()

    def condition(self, context: Any) -> TorchDistribution:
        """The distribution given a checked state."""
        gate = torch.sigmoid(self.gate_out(torch.relu(self.gate_in(context))))
        proposal = self.proposal_out(torch.relu(self.proposal_in(context)))
        loc = (1 - gate) * self.linear(context) + gate * proposal
        scale = positive(self.scale(torch.relu(proposal)), self.floor)
        return dist.Normal(loc, scale).to_event(1)


class Combiner(Conditional):
    """The combiner of a deep Markov model's guide:  z_t ~ Normal(loc(c), scale(c)),  c = (tanh(W
    z_{t-1} + w) + h_t) / 2,  with features h_t of the data.

    Args:
        z_dim: of a state.
        features: of h_t.
        min_scale: the smallest scale.

    Shapes:
        context z_{t-1} (*batch, z_dim) and h_t (*batch, features) -> batch_shape (*batch,),
        event_shape (z_dim,).

    Raises:
        ValueError: for a size below 1.

    References:
        Krishnan, Shalit & Sontag (2017), arXiv:1609.09869, Section 5 (DKS and ST-R).

    Example:
        >>> Combiner(2, 8)((torch.zeros(5, 2), torch.zeros(5, 8))).batch_shape
        torch.Size([5])
    """

    def __init__(self, z_dim: int, features: int, *, min_scale: float = 1e-4) -> None:
        z_dim, features = check_count("z_dim", z_dim), check_count("features", features)
        super().__init__(z_dim, context_shape=(z_dim, (features,)))
        self.floor = check_fraction("min_scale", min_scale)
        self.state, self.head = Linear(z_dim, features), Linear(features, 2 * z_dim)

    def condition(self, context: Any) -> TorchDistribution:
        """The distribution given a checked state and checked features."""
        state, features = context
        loc, raw = self.head((torch.tanh(self.state(state)) + features) / 2).chunk(2, -1)
        return dist.Normal(loc, positive(raw, self.floor)).to_event(1)


def combined(combiner: Combiner, start: Tensor, features: Tensor, noise: Tensor) -> Tensor:
    """The states (num, T, z_dim) of a combiner behind `start` (num, z_dim), from standard normal
    noise (num, T, z_dim): what depends on features (num, T, features) alone, in one batch.
    """
    z_dim = start.shape[-1]
    fixed = F.linear(features / 2, combiner.head.weight, combiner.head.bias)
    shift = fixed.new_zeros(2 * z_dim)
    shift[z_dim:] = log(expm1(1 - combiner.floor))  # that of `positive`
    weight, head = combiner.state.weight.mT, combiner.head.weight.mT / 2
    state, states = start, []
    for given, e in zip((fixed + shift).unbind(1), noise.unbind(1)):
        hidden = torch.addmm(combiner.state.bias, state, weight).tanh()
        loc, raw = torch.addmm(given, hidden, head).split(z_dim, -1)
        state = torch.addcmul(loc, combiner.floor + F.softplus(raw), e)
        states.append(state)
    return torch.stack(states, 1)
