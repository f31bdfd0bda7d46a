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
from pyro_dgm.compat import in_torch_func, with_gradients
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
    z_dim, half = start.shape[-1], combiner.head.weight / 2
    shift = start.new_zeros(2 * z_dim)
    shift[z_dim:] = log(expm1(1 - combiner.floor))  # that of `positive`
    noise = noise.transpose(0, 1).contiguous()
    given = F.linear(features.transpose(0, 1), half, combiner.head.bias + shift)
    given = given + F.pad(combiner.floor * noise, (0, z_dim))
    inputs = given, noise, start, combiner.state.weight, combiner.state.bias, half
    one = start.device.type == "cpu" and given.dtype == half.dtype and not in_torch_func()
    return (looped(*inputs)[0] if one else _written_out(*inputs)).transpose(0, 1)


def _written_out(
    given: Tensor, noise: Tensor, start: Tensor, weight: Tensor, bias: Tensor, head: Tensor
) -> Tensor:
    """The states (T, num, z_dim) of the loop, step by step."""
    states = [start]
    for now, e in zip(given, noise):
        hidden = torch.tanh(F.linear(states[-1], weight, bias))
        loc, raw = (now + F.linear(hidden, head)).chunk(2, -1)
        states.append(torch.addcmul(loc, F.softplus(raw), e))
    return torch.stack(states[1:])


@torch.library.custom_op("pyro_dgm::combiner", mutates_args=())
def looped(
    given: Tensor, noise: Tensor, start: Tensor, weight: Tensor, bias: Tensor, head: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The same and what the gradients need: the hidden units, and location and scale before the
    softplus.  One operation, in a compiled step as well, which would write the loop out.
    """
    states, found = torch.empty_like(noise), torch.empty_like(given)
    hidden = noise.new_empty(*noise.shape[:2], len(weight))
    loc, raw = (part.unbind() for part in found.chunk(2, -1))
    state, turned, turned_head = start, weight.mT, head.mT
    for t, (now, e, h, new, after) in enumerate(zip(given, noise, hidden, found, states)):
        torch.addmm(bias, state, turned, out=h).tanh_()
        torch.addmm(now, h, turned_head, out=new)
        state = torch.addcmul(loc[t], F.softplus(raw[t]), e, out=after)
    return states, hidden, found


@torch.library.custom_op("pyro_dgm::combiner_gradients", mutates_args=())
def _gradients(
    slope: Tensor,
    noise: Tensor,
    start: Tensor,
    weight: Tensor,
    head: Tensor,
    states: Tensor,
    hidden: Tensor,
    found: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Of all inputs, from those of the states."""
    steps, num, z_dim = noise.shape
    raw = found[..., z_dim:]
    rates = torch.stack([torch.ones_like(noise), noise * torch.sigmoid(raw)], -2)
    bends = 1 - hidden * hidden
    moved, inner, totals = map(torch.empty_like, (rates, hidden, states))
    flat = moved.view(steps, num, 2 * z_dim)
    at, wide, given = totals.unbind(), totals[:, :, None].unbind(), slope.contiguous().unbind()
    rate, move, rows = rates.unbind(), moved.unbind(), flat.unbind()
    below, bend = inner.unbind(), bends.unbind()
    at[-1].copy_(given[-1])
    for t in range(steps - 1, -1, -1):
        torch.mul(wide[t], rate[t], out=move[t])
        torch.mm(rows[t], head, out=below[t]).mul_(bend[t])
        if t:
            torch.addmm(given[t - 1], below[t], weight, out=at[t - 1])
    before = torch.cat([start[None], states[:-1]])
    to_weight = inner.flatten(0, 1).mT @ before.flatten(0, 1)
    to_head = flat.flatten(0, 1).mT @ hidden.flatten(0, 1)
    to_noise, to_start = totals * F.softplus(raw), inner[0] @ weight
    return flat, to_noise, to_start, to_weight, inner.sum((0, 1)), to_head


@looped.register_fake
def _(
    given: Tensor, noise: Tensor, start: Tensor, weight: Tensor, bias: Tensor, head: Tensor
) -> tuple[Tensor, ...]:
    hidden = noise.new_empty(*noise.shape[:2], len(weight))
    return torch.empty_like(noise), hidden, torch.empty_like(given)


@_gradients.register_fake
def _(
    slope: Tensor, noise: Tensor, start: Tensor, weight: Tensor, head: Tensor, *kept: Tensor
) -> tuple[Tensor, ...]:
    found = *map(torch.empty_like, (kept[2], noise, start, weight)), weight.new_empty(len(weight))
    return *found, torch.empty_like(head)


with_gradients(
    looped,
    lambda slope, inputs, kept: _gradients(slope, *inputs[1:4], inputs[5], *kept),
    _written_out,
)
