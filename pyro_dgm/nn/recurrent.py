"""Recurrent networks over sequences of unequal lengths, forward or from the end of each."""

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from dgm_core.arguments import check_count, check_flag
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
        inputs = turned(x, lengths) if self.reverse else x
        flat = inputs.reshape(-1, *inputs.shape[-2:])
        # cuDNN has derivatives in training mode alone; torch's own kernels have them in both.
        own = torch.backends.cudnn.flags(enabled=False) if not self.training else nullcontext()
        with own:
            states = super().forward(flat)[0]
        states = states.reshape(*inputs.shape[:-1], self.out_dim)
        states = turned(states, lengths) if self.reverse else states
        return states if lengths is None else without_padding(states, lengths)

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
