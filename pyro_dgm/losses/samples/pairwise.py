"""Distances between all pairs of two sets of points, and the check that two sets can be
compared.
"""

import torch
from torch import Tensor

from pyro_dgm.losses.formulas import attach_gradient

__all__ = ["as_points", "distances", "squared_distances"]


def as_points(x: Tensor, y: Tensor, least: int = 1) -> tuple[Tensor, Tensor]:
    """Two samples as rows: (num_x, *event) and (num_y, *event) -> (num_x, dim) and (num_y, dim).

    Raises:
        ValueError: for events of different shapes and for fewer than `least` points.
    """
    if x.ndim == 0 or y.ndim == 0 or x.shape[1:] != y.shape[1:]:
        raise ValueError(
            f"Two samples need shapes (num, *event) with equal events, got {tuple(x.shape)} "
            "and "
            f"{tuple(y.shape)}."
        )
    if min(len(x), len(y)) < least:
        raise ValueError(
            f"This estimate needs at least {least} points of each sample, got {len(x)} and "
            f"{len(y)}."
        )
    return x.reshape(len(x), -1), y.reshape(len(y), -1)


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """|x_i - y_j|^2 for points (*batch, num_x, dim) and (*batch, num_y, dim) -> (*batch, num_x,
    num_y).

    By matrix products, quick in many dimensions; exact to rounding at the scale of the points, not
    of their distances: not for roots.
    """
    return _by_products(x, y).clamp(min=0)


def distances(x: Tensor, y: Tensor) -> Tensor:
    """|x_i - y_j| for points (*batch, num_x, dim) and (*batch, num_y, dim) -> (*batch, num_x,
    num_y).

    From differences, exact however close two points are, and with gradient zero where they
    coincide; the gradient comes by matrix products.
    """
    exact = torch.cdist(
        x.detach(), y.detach(), compute_mode="donot_use_mm_for_euclid_dist"
    ).square()
    apart = exact > 0
    return torch.where(
        apart, torch.where(apart, attach_gradient(exact, _by_products(x, y)), 1).sqrt(), 0
    )


def _by_products(x: Tensor, y: Tensor) -> Tensor:
    """|x_i|^2 + |y_j|^2 - 2 x_i y_j, of points that are centered first: no digits are lost to a
    common offset.
    """
    center = x.detach().mean(-2, keepdim=True)
    x, y = x - center, y - center
    return x.square().sum(-1)[..., :, None] + y.square().sum(-1)[..., None, :] - 2 * x @ y.mT
