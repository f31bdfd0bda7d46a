"""Sylvester flows: planar flows with many hidden units in each layer."""

from math import sqrt

import torch
from torch import Tensor

from dgm_core.arguments import check_count
from dgm_core.contexts import ContextShape
from pyro_dgm.conditionals import Conditional
from pyro_dgm.flows.context_linear.base import ParametricTransform
from pyro_dgm.flows.context_linear.householder import reflections, times
from pyro_dgm.flows.context_linear.planar import unbend
from pyro_dgm.flows.flow import Flow
from pyro_dgm.nn.special import sech_squared

__all__ = ["Sylvester", "SylvesterLayer"]


class SylvesterLayer(ParametricTransform):
    """x = u + Q R tanh(S Q'u + b),  log |det dx/du| = sum_i log(1 + R_ii S_ii sech^2((S Q'u +
    b)_i)).

    Q (D, M) has orthonormal columns, the first M of a product of Householder reflections; R and S
    (M, M) are upper triangular, their diagonals in (-1, 1), so that R_ii S_ii > -1. All are free or
    linear in the context (the diagonals by a tanh).

    Args:
        dim: D.
        rank: M, at most D.
        num_reflections: M of them give every Q.
        context_shape: 0 = free parameters.

    Shapes:
        u and x (*batch, D), context (*batch, *context_shape).

    Cost:
        D num_reflections + M (M + 2) parameters; forward 8 D num_reflections + 4 M^2 operations;
        the inverse M root searches in one number, from the last coordinate of Q'u to the first.

    Raises:
        ValueError: if rank is not in [1, dim] or num_reflections < 1.

    References:
        van den Berg et al. (2018), arXiv:1803.05649, eqs. (9) to (16).
    """

    rows: Tensor
    columns: Tensor

    def __init__(
        self, dim: int, rank: int, num_reflections: int, *, context_shape: ContextShape = 0
    ) -> None:
        dim = check_count("dim", dim)
        rank = check_count("rank", rank, most=dim)
        num_reflections = check_count("num_reflections", num_reflections)
        triangle = rank * (rank - 1) // 2
        sizes = (num_reflections * dim, triangle, triangle, rank, rank, rank)
        super().__init__(sum(sizes), context_shape=context_shape, initial_scale=0.3)
        self.dim, self.rank, self.sizes = dim, rank, sizes
        rows, columns = torch.triu_indices(rank, rank, 1)
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("columns", columns, persistent=False)

    @property
    def inverse_cost(self) -> str:
        """What `inverse_and_log_det` costs."""
        return f"{self.rank} root searches"

    def forward_and_log_det(
        self, u: Tensor, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """x = f(u; c) and log |det dx/du|."""
        normals, r, s, b = self._parts(context)
        v = self._into(normals, u)
        return self._moved(u, 1.0, normals, r, s, b, v), _log_det(r, s, b, v)

    def inverse_and_log_det(
        self, x: Tensor, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """u = f^-1(x; c) and log |det du/dx|."""
        normals, r, s, b = self._parts(context)
        v = _solve(self._into(normals, x), r, s, b)
        return self._moved(x, -1.0, normals, r, s, b, v), -_log_det(r, s, b, v)

    def _parts(self, context: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The normals of the reflections (*batch, num_reflections, D), R and S (*batch, M, M), b
        (*batch, M).
        """
        normals, upper_r, upper_s, diagonal_r, diagonal_s, b = self.raw(context).split(
            self.sizes, -1
        )
        return (
            normals.unflatten(-1, (-1, self.dim)),
            self._triangular(upper_r, diagonal_r),
            self._triangular(upper_s, diagonal_s),
            b,
        )

    def _triangular(self, upper: Tensor, diagonal: Tensor) -> Tensor:
        matrix = (
            sqrt(0.999) * torch.tanh(diagonal)
        ).diag_embed()  # R_ii S_ii > -0.999: a slope of at least 1e-3
        matrix[..., self.rows, self.columns] = upper
        return matrix

    def _into(self, normals: Tensor, value: Tensor) -> Tensor:
        """Q' value: (*batch, D) -> (*batch, M)."""
        return reflections(value, normals)[..., : self.rank]

    def _moved(
        self,
        value: Tensor,
        sign: float,
        normals: Tensor,
        r: Tensor,
        s: Tensor,
        b: Tensor,
        v: Tensor,
    ) -> Tensor:
        """value + sign Q R tanh(S v + b)."""
        step = times(torch.tanh(times(v, s.mT) + b), r.mT)
        step = torch.nn.functional.pad(step, (0, self.dim - self.rank))
        return value + sign * reflections(step, normals.flip(-2))


def _log_det(r: Tensor, s: Tensor, b: Tensor, v: Tensor) -> Tensor:
    slope = sech_squared(times(v, s.mT) + b)
    return torch.log1p(r.diagonal(dim1=-2, dim2=-1) * s.diagonal(dim1=-2, dim2=-1) * slope).sum(-1)


def _solve(value: Tensor, r: Tensor, s: Tensor, b: Tensor) -> Tensor:
    """v (*batch, M) with v + R tanh(S v + b) = value: coordinate i needs only those after it, which
    come first.
    """
    rank = value.shape[-1]
    v = h = value[..., :0]
    for i in reversed(range(rank)):
        size, slope = r[..., i, i], s[..., i, i]
        shift = b[..., i] + (s[..., i, i + 1 :] * v).sum(-1)
        last = unbend(value[..., i] - (r[..., i, i + 1 :] * h).sum(-1), size, slope, shift)
        v, h = (
            torch.cat([last[..., None], v], -1),
            torch.cat([torch.tanh(slope * last + shift)[..., None], h], -1),
        )
    return v


class Sylvester(Flow):
    """A stack of Sylvester layers:  u_l = u_{l-1} + Q_l R_l tanh(S_l Q_l'u_{l-1} + b_l), with
    orthonormal Q_l and upper triangular R_l and S_l.

    With rank = 1 it is a planar flow. Q_l is a product of Householder reflections, which covers the
    orthogonal variant (rank below D) and the Householder variant (rank = D) of the paper.

    Args:
        dim: D.
        rank: M; None: the smaller of D and 16.
        num_reflections: None: M, which give every Q.
        context_shape: 0 = unconditional; else all parameters are functions of the context.
        num_layers: the number of layers.
        base: as in `Flow`.

    Shapes:
        context (*batch, *context_shape) -> batch_shape (*batch,), event_shape (D,).

    Cost:
        a draw and its density (D num_reflections + M (M + 2)) num_layers parameters and as many
        operations, times 8; any other value M num_layers root searches in one number.

    Raises:
        ValueError: if rank is not in [1, dim], num_reflections < 1 or num_layers < 1.

    References:
        van den Berg et al. (2018), arXiv:1803.05649.

    Example:
        >>> Sylvester(4)().sample((5,)).shape
        torch.Size([5, 4])
    """

    def __init__(
        self,
        dim: int,
        *,
        context_shape: ContextShape = 0,
        num_layers: int = 4,
        rank: int | None = None,
        num_reflections: int | None = None,
        base: Conditional | None = None,
    ) -> None:
        rank = min(check_count("dim", dim), 16) if rank is None else rank
        num_reflections = rank if num_reflections is None else num_reflections
        layers = [
            SylvesterLayer(dim, rank, num_reflections, context_shape=context_shape)
            for _ in range(check_count("num_layers", num_layers))
        ]
        super().__init__(dim, layers, context_shape=context_shape, base=base)
        self.num_layers, self.rank, self.num_reflections = num_layers, rank, num_reflections

    def _sizes(self) -> tuple[str, ...]:
        return (
            f"num_layers={self.num_layers}",
            f"rank={self.rank}",
            f"num_reflections={self.num_reflections}",
        )
