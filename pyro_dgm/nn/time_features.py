"""Times as networks see them."""

import numpy as np
import torch
from torch import Tensor, nn

from dgm_core.arguments import check_count, check_number, refuse

__all__ = ["TimeFeatures"]


class TimeFeatures(nn.Module):
    """Sines and cosines of a time: (sin w_k t, cos w_k t), k = 1, ..., dim / 2, where the
    frequencies w_k grow geometrically from the lowest to the highest.

    It has no weights. The defaults are for times in [0, 1]: of steps 0, ..., T, hand over t / T.

    Args:
        dim: of the vector, even.
        lowest: the first frequency w_1.
        highest: the last one.

    Attributes:
        out_dim: dim.

    Shapes:
        t (*batch,) -> (*batch, dim), the sines first.

    Raises:
        ValueError: for an odd dim, a lowest frequency that is not positive, and a highest one that
            is not above it.

    References:
        Vaswani et al. (2017), arXiv:1706.03762; Ho et al. (2020), arXiv:2006.11239.

    Example:
        >>> TimeFeatures(4)(torch.zeros(7)).shape
        torch.Size([7, 4])
    """

    frequencies: Tensor

    def __init__(self, dim: int, *, lowest: float = 1.0, highest: float = 100.0) -> None:
        super().__init__()
        self.out_dim = check_count("dim", dim, 2)
        self.lowest = check_number("lowest", lowest, above=0)
        self.highest = check_number("highest", highest, above=lowest)
        if dim % 2:
            refuse("dim", "an even integer", dim)
        values = torch.as_tensor(np.geomspace(self.lowest, self.highest, dim // 2))
        self.register_buffer("frequencies", values, persistent=False)

    def forward(self, t: Tensor) -> Tensor:
        """The features of t (*batch,)."""
        t = torch.as_tensor(t)
        t = t if t.is_floating_point() else t.to(torch.get_default_dtype())
        angles = t[..., None] * self.frequencies.to(t)
        return torch.cat((angles.sin(), angles.cos()), -1)

    def __repr__(self) -> str:
        return f"TimeFeatures({self.out_dim}, lowest={self.lowest}, highest={self.highest})"
