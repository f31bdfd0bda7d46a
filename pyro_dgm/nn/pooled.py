"""Features of sets: a network on every row, sums and means over the rows, a network on these."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from dgm_core.arguments import check_callable

__all__ = ["Pooled"]


class Pooled(nn.Module):
    """Features of groups of rows, of different numbers of them, in any order:

    h_i = row_network(x_i);  features = out_network([sum_i h_i, mean_i h_i, log(1 + n)]).

    Args:
        row_network: from the d entries of a row to H features.
        out_network: from 2 H + 1 numbers to the features of the group.

    Shapes:
        rows (*, n, d), beside a mask also (*, n) where d = 1; mask (*, n), true where a row counts
        -> (*, F).
        What lies beneath the mask, NaN included, does not enter.

    Raises:
        ValueError: where rows and mask do not fit.

    References:
        Zaheer et al. (2017), arXiv:1703.06114.

    Example:
        >>> from pyro_dgm.nn import MLP
        >>> pooled = Pooled(MLP(2, (8,)), MLP(17, (8,), 5))
        >>> pooled(torch.zeros(3, 7, 2), torch.ones(3, 7, dtype=torch.bool)).shape
        torch.Size([3, 5])
    """

    def __init__(self, row_network: Callable, out_network: Callable) -> None:
        super().__init__()
        self.row_network = check_callable("row_network", row_network, "a network of a row")
        self.out_network = check_callable("out_network", out_network, "a network of features")

    def forward(self, rows: Tensor, mask: Tensor | None = None) -> Tensor:
        """The features of each group."""
        if mask is None:
            mask = torch.ones(rows.shape[:-1], dtype=torch.bool, device=rows.device)
        if rows.ndim == mask.ndim:
            rows = rows[..., None]
        if rows.shape[:-1] != mask.shape:
            raise ValueError(
                f"Rows of shape {tuple(rows.shape)} need a mask of shape {tuple(rows.shape[:-1])}, "
                f"got {tuple(mask.shape)}."
            )
        seen = mask.bool()[..., None]
        hidden = self.row_network(torch.where(seen, rows, torch.zeros_like(rows)))
        count = seen.sum(-2).to(hidden.dtype)
        total = torch.where(seen, hidden, torch.zeros_like(hidden)).sum(-2)
        return self.out_network(torch.cat([total, total / count.clamp(min=1.0), count.log1p()], -1))
