"""Householder flows: rotations of the noise as products of reflections, which turn a diagonal
covariance into a full one.
"""

import torch
from torch import Tensor

from dgm_core.arguments import check_count
from dgm_core.contexts import ContextShape
from pyro_dgm.conditionals import Conditional, DiagonalNormal
from pyro_dgm.flows.context_linear.base import ParametricTransform
from pyro_dgm.flows.flow import Flow

__all__ = ["Householder", "Reflection"]


def reflect(value: Tensor, normal: Tensor) -> Tensor:
    """value - 2 v (v' value) / (v' v), the mirror image of `value` (*batch, D) in the hyperplane
    with normal v (*batch, D).

    Example:
        >>> reflect(torch.tensor([3.0, 4.0]), torch.tensor([2.0, 0.0]))
        tensor([-3.,  4.])
    """
    square = normal.square().sum(-1, keepdim=True).clamp(min=torch.finfo(normal.dtype).tiny)
    return value - (2 * (normal * value).sum(-1, keepdim=True) / square) * normal


def times(row: Tensor, matrix: Tensor) -> Tensor:
    """row' matrix: (*batch, A), (*batch, A, B) -> (*batch, B), in one product where all rows share
    the matrix.

    Example:
        >>> times(torch.tensor([1.0, 2.0]), torch.tensor([[1.0, 2.0], [5.0, 6.0]]))
        tensor([11., 14.])
    """
    return row @ matrix if matrix.ndim == 2 else (row[..., None, :] @ matrix)[..., 0, :]


def reflections(value: Tensor, normals: Tensor) -> Tensor:
    """H_K ... H_1 value for K reflections at once: value (*batch, D), normals v_1, ..., v_K
    (*batch, K, D).

    With unit normals as the rows of V it is value - V'(L^-1 V value), L = I / 2 + the part of V V'
    below the diagonal: three products instead of K steps.

    References:
        Joffrain et al. (2006), Accumulating Householder transformations, revisited, ACM Trans.
        Math. Softw. 32.

    Example:
        >>> reflections(torch.tensor([3.0, 4.0]), torch.eye(2))
        tensor([-3., -4.])
    """
    units = (
        normals
        * normals.square().sum(-1, keepdim=True).clamp(min=torch.finfo(normals.dtype).tiny).rsqrt()
    )
    lower = (units @ units.mT).tril(-1) + torch.eye(
        units.shape[-2], dtype=units.dtype, device=units.device
    ) / 2
    along = times(value, units.mT)  # (*batch, K), V value
    if lower.ndim == 2:  # one system for all values, if they share the normals
        solved = torch.linalg.solve_triangular(
            lower, along.reshape(-1, along.shape[-1]).T, upper=False
        ).T.reshape(along.shape)
    else:
        solved = torch.linalg.solve_triangular(lower, along[..., None], upper=False)[..., 0]
    return value - times(solved, units)


class Reflection(ParametricTransform):
    """x = (I - 2 v v' / |v|^2) u, with determinant -1, which is its own inverse; v is free or
    linear in the context.

    Args:
        dim: D.
        context_shape: 0 = a free v.

    Shapes:
        u and x (*batch, D), context (*batch, *context_shape).

    Cost:
        4 D operations in each direction.
    """

    def __init__(self, dim: int, *, context_shape: ContextShape = 0) -> None:
        dim = check_count("dim", dim)
        super().__init__(dim, context_shape=context_shape, initial_scale=1.0)

    def forward_and_log_det(
        self, u: Tensor, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """x = f(u; c) and log |det dx/du|."""
        return reflect(u, self.raw(context)), u.new_zeros(())

    def inverse_and_log_det(
        self, x: Tensor, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """u = f^-1(x; c) and log |det du/dx|."""
        return self.forward_and_log_det(x, context)


class Householder(Flow):
    """A product of Householder reflections:  x = H_L ... H_1 u,  H_l = I - 2 v_l v_l' / |v_l|^2,
    v_l linear in the context.

    The base is a diagonal normal distribution also without a context: every reflection of the
    standard normal distribution is the standard normal distribution.

    Args:
        dim: D.
        context_shape: 0 = unconditional.
        num_layers: reflections: D of them give every orthogonal matrix.
        base: as in `Flow`, but by default DiagonalNormal(dim, context_shape=context_shape).

    Shapes:
        context (*batch, *context_shape) -> batch_shape (*batch,), event_shape (D,).

    Cost:
        4 D num_layers operations in each direction; D num_layers parameters per value.

    Raises:
        ValueError: if num_layers < 1.

    References:
        Tomczak & Welling (2016), arXiv:1611.09630.

    Example:
        >>> Householder(4)().sample((5,)).shape
        torch.Size([5, 4])
    """

    def __init__(
        self,
        dim: int,
        *,
        context_shape: ContextShape = 0,
        num_layers: int = 8,
        base: Conditional | None = None,
    ) -> None:
        reflections = [
            Reflection(dim, context_shape=context_shape)
            for _ in range(check_count("num_layers", num_layers))
        ]
        super().__init__(
            dim,
            reflections,
            context_shape=context_shape,
            base=DiagonalNormal(dim, context_shape=context_shape) if base is None else base,
        )
        self.num_layers = num_layers

    def _sizes(self) -> tuple[str, ...]:
        return (f"num_layers={self.num_layers}",)
