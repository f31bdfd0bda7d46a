"""Weights as layers start with them."""

import torch
from torch import Tensor

__all__: list[str] = []  # for the package, not for users


def uniform_draws(shape: tuple[int, ...], limit: float) -> Tensor:
    """Draws from U(-limit, limit) of this shape.

    Example:
        >>> uniform_draws((3, 5), 0.5).shape
        torch.Size([3, 5])
    """
    return torch.empty(shape).uniform_(-limit, limit)
