"""Recurrent networks over sequences of unequal lengths, forward or from the end of each."""

from contextlib import nullcontext
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dgm_core.arguments import check_count, check_flag
from pyro_dgm.compat import in_torch_func, with_gradients
from pyro_dgm.nn.sequences import checked_lengths, without_padding

__all__ = ["GRU"]


class GRU(nn.GRU):
    """A gated recurrent unit over time:  h_t = (1 - u_t) n_t + u_t h_{t-1},  h_0 = 0,  with gates
    u, r and proposal n from x_t and h_{t-1}.

    Args:
        in_dim: the features of a step.
        hidden: of h.
        reverse: whether it runs from the end of each sequence, so that h_t sees x_t, ..., x_T.

    Shapes:
        x (*batch, T, in_dim), lengths (*batch,) or None for T -> (*batch, T, hidden), zero behind
        the lengths; what stands there is not looked at, NaN included.

    Raises:
        ValueError: for sizes, features or lengths that do not fit.

    References:
        Cho et al. (2014), arXiv:1406.1078.

    Example:
        >>> GRU(3, 8, reverse=True)(torch.zeros(5, 7, 3)).shape
        torch.Size([5, 7, 8])
    """

    def __init__(self, in_dim: int, hidden: int, *, reverse: bool = False) -> None:
        in_dim, hidden = check_count("in_dim", in_dim), check_count("hidden", hidden)
        super().__init__(in_dim, hidden, batch_first=True)
        self.in_dim, self.out_dim = in_dim, hidden
        self.reverse = check_flag("reverse", reverse)

    def forward(self, x: Tensor, lengths: Any = None) -> Tensor:  # type: ignore[override]
        """The states h of all steps."""
        if x.ndim < 2 or x.shape[-1] != self.in_dim:
            raise ValueError(
                f"{self} expects sequences of shape (*batch, length, {self.in_dim}), got shape "
                f"{tuple(x.shape)}."
            )
        if lengths is not None:
            lengths = checked_lengths(lengths, x.shape[-2])
            x = without_padding(x, lengths)
        x = x.to(cast(Tensor, self.weight_hh_l0).dtype)
        turn = self.reverse and lengths is not None  # else the loop itself runs from the end
        inputs = turned(x, lengths) if turn else x
        states = self._states(inputs.reshape(-1, *inputs.shape[-2:]), self.reverse and not turn)
        states = states.reshape(*inputs.shape[:-1], self.out_dim)
        states = turned(states, lengths) if turn else states
        return states if lengths is None else without_padding(states, lengths)

    def _states(self, x: Tensor, reverse: bool) -> Tensor:
        """Those of sequences (num, T, in_dim)."""
        if x.device.type == "cpu":
            weights: list[Any] = [self.weight_ih_l0, self.bias_ih_l0]
            given = F.linear(x.transpose(0, 1), *weights)
            weights = [self.weight_hh_l0, self.bias_hh_l0]
            inputs = given, *weights, reverse
            plain = in_torch_func() or given.dtype != weights[0].dtype  # under autocast
            states = _written_out(*inputs) if plain else looped(*inputs)[0]
            return (states[:-1] if reverse else states[1:]).transpose(0, 1)
        # cuDNN has derivatives in training mode alone; torch's own kernels have them in both.
        own = torch.backends.cudnn.flags(enabled=False) if not self.training else nullcontext()
        with own:
            states = super().forward(x.flip(1) if reverse else x)[0]
        return states.flip(1) if reverse else states

    def step(self, x: Tensor, state: Tensor) -> Tensor:
        """One step: h_t from x_t (*batch, in_dim) and h_{t-1} (*batch, hidden)."""
        batch = torch.broadcast_shapes(x.shape[:-1], state.shape[:-1])
        x = x.to(state.dtype).expand(*batch, -1).reshape(-1, self.in_dim)
        state = state.expand(*batch, -1).reshape(-1, self.out_dim)
        weights: Any = self.weight_ih_l0, self.weight_hh_l0, self.bias_ih_l0, self.bias_hh_l0
        return torch.gru_cell(x, state, *weights).reshape(*batch, self.out_dim)

    def __repr__(self) -> str:
        turn = ", reverse=True" if self.reverse else ""
        return f"GRU({self.in_dim}, {self.out_dim}{turn})"


def turned(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Sequences (*batch, T, features) from their ends; what is behind these stays."""
    if lengths is None:
        return x.flip(-2)
    steps = torch.arange(x.shape[-2], device=x.device)
    index = torch.where(steps < lengths[..., None], lengths[..., None] - 1 - steps, steps)
    return x.gather(-2, index[..., None].expand(x.shape))


@torch.library.custom_op("pyro_dgm::gru", mutates_args=())
def looped(
    given: Tensor, weight: Tensor, bias: Tensor, reverse: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The states (T + 1, num, hidden) behind zeros, of what the inputs bring (T, num, 3 hidden);
    and what the gradients need: the products with the last states, r and u, and n.

    One operation, in a compiled step as well, which would write the loop out.
    """
    (steps, num), hidden = given.shape[:2], weight.shape[1]
    states, products = given.new_zeros(steps + 1, num, hidden), torch.empty_like(given)
    gates, proposals = given.new_empty(steps, num, 2 * hidden), given.new_empty(steps, num, hidden)
    before, after = states[:-1].unbind(), states[1:].unbind()
    given_gates, given_n = (part.unbind() for part in given.split([2 * hidden, hidden], -1))
    found_gates, found_n = (part.unbind() for part in products.split([2 * hidden, hidden], -1))
    r, u = (part.unbind() for part in gates.chunk(2, -1))
    found, both, n, turned_weight = products.unbind(), gates.unbind(), proposals.unbind(), weight.mT
    if reverse:
        before, after = after, before
    for t in reversed(range(steps)) if reverse else range(steps):
        torch.addmm(bias, before[t], turned_weight, out=found[t])
        torch.add(given_gates[t], found_gates[t], out=both[t]).sigmoid_()
        torch.addcmul(given_n[t], r[t], found_n[t], out=n[t]).tanh_()
        torch.lerp(n[t], before[t], u[t], out=after[t])
    return states, products, gates, proposals


@torch.library.custom_op("pyro_dgm::gru_gradients", mutates_args=())
def _gradients(
    slope: Tensor,
    weight: Tensor,
    reverse: bool,
    states: Tensor,
    products: Tensor,
    gates: Tensor,
    n: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Of what the inputs bring, the weight and the bias, from those of the states."""
    steps, num, hidden = n.shape
    r, u = gates.chunk(2, -1)
    before, slope = (states[1:], slope[:-1]) if reverse else (states[:-1], slope[1:])
    rates = n.new_empty(steps, num, 3, hidden)  # of the products r, u, n, where a state moves
    own = (1 - u) * (1 - n * n)
    torch.mul(own, r, out=rates[..., 2, :])
    torch.mul(rates[..., 2, :] * (1 - r), products[..., 2 * hidden :], out=rates[..., 0, :])
    torch.mul((before - n) * u, 1 - u, out=rates[..., 1, :])
    moved, totals = torch.empty_like(rates), torch.empty_like(n)
    flat = moved.view(steps, num, 3 * hidden)
    at, move, rows, rate = totals.unbind(), moved.unbind(), flat.unbind(), rates.unbind()
    wide, keep, given = totals[:, :, None].unbind(), u.unbind(), slope.contiguous().unbind()
    order = range(steps) if reverse else range(steps - 1, -1, -1)
    at[order[0]].copy_(given[order[0]])
    for t, following in zip(order, [*order[1:], None]):
        torch.mul(wide[t], rate[t], out=move[t])
        if following is not None:
            torch.addcmul(given[following], at[t], keep[t], out=at[following])
            at[following].addmm_(rows[t], weight)
    to_given = torch.cat([flat[..., : 2 * hidden], totals * own], -1)
    return to_given, flat.flatten(0, 1).mT @ before.flatten(0, 1), flat.sum((0, 1))


@looped.register_fake
def _(given: Tensor, weight: Tensor, bias: Tensor, reverse: bool) -> tuple[Tensor, ...]:
    (steps, num, wide), hidden = given.shape, weight.shape[1]
    sizes = (steps + 1, hidden), (steps, wide), (steps, 2 * hidden), (steps, hidden)
    return tuple(given.new_empty(steps, num, size) for steps, size in sizes)


@_gradients.register_fake
def _(slope: Tensor, weight: Tensor, reverse: bool, *kept: Tensor) -> tuple[Tensor, ...]:
    return torch.empty_like(kept[1]), torch.empty_like(weight), weight.new_empty(len(weight))


def _written_out(given: Tensor, weight: Tensor, bias: Tensor, reverse: bool) -> Tensor:
    """The states of the loop, step by step."""
    state = given.new_zeros(given.shape[1], weight.shape[1])
    states = [state]
    for now in given.flip(0) if reverse else given:
        product = F.linear(state, weight, bias)
        r, u = torch.sigmoid(now + product).chunk(3, -1)[:2]
        n = torch.tanh(now.chunk(3, -1)[2] + r * product.chunk(3, -1)[2])
        state = torch.lerp(n, state, u)
        states.append(state)
    return torch.stack(states[::-1] if reverse else states)


with_gradients(
    looped,
    lambda slope, inputs, kept: _gradients(slope, inputs[1], inputs[3], *kept),
    _written_out,
)
