"""Linear transforms, which stand between the layers of a flow so that every coordinate meets every
other: scalings, permutations, rotations, any matrix.

Their log-determinants are the same for all values.
"""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn

from dgm_core.arguments import check_count, check_permutation, check_shape, refuse
from pyro_dgm.flows.transform import Transform

__all__ = ["LU", "Diagonal", "Orthogonal", "Permutation"]


class Diagonal(Transform):
    """x_i = exp(s_i) u_i,  log |det dx/du| = sum_i s_i.

    Args:
        dim: D.

    Attributes:
        log_scale: (D,), s.

    Shapes:
        u and x (*batch, D).

    Raises:
        ValueError: if dim < 1.

    References:
        Dinh et al. (2014), arXiv:1410.8516, section 3.3.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        dim = check_count("dim", dim)
        self.log_scale = nn.Parameter(torch.zeros(dim))

    def forward_and_log_det(
        self, u: Tensor, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """x = f(u) and log |det dx/du|."""
        return self.log_scale.exp() * u, self.log_scale.sum()

    def inverse_and_log_det(
        self, x: Tensor, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """u = f^-1(x) and log |det du/dx|."""
        return (-self.log_scale).exp() * x, -self.log_scale.sum()


class Permutation(Transform):
    """x_i = u_{order[i]}: the same entries in another order.

    Args:
        order: a permutation of 0, ..., D - 1.

    Shapes:
        u and x (*batch, D).

    Raises:
        ValueError: if order is no permutation.

    Example:
        >>> Permutation((2, 0, 1)).forward_and_log_det(torch.tensor([10.0, 11.0, 12.0]))[0]
        tensor([12., 10., 11.])
    """

    order: Tensor
    reverse: Tensor

    def __init__(self, order: Sequence[int]) -> None:
        super().__init__()
        order = check_permutation("order", order)
        self.register_buffer("order", torch.tensor(order), persistent=False)
        self.register_buffer("reverse", torch.tensor(order).argsort(), persistent=False)

    def forward_and_log_det(
        self, u: Tensor, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """x = f(u) and log |det dx/du|."""
        return u[..., self.order], u.new_zeros(())

    def inverse_and_log_det(
        self, x: Tensor, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """u = f^-1(x) and log |det du/dx|."""
        return x[..., self.reverse], x.new_zeros(())


class Orthogonal(Transform):
    """A rotation:  x = exp(A) u,  A' = -A,  log |det dx/du| = 0.

    Args:
        dim: D, at least 2.

    Attributes:
        angles: (D (D - 1) / 2,), the entries of A below the diagonal, row by row.
        zero: is the identity.

    Shapes:
        u and x (*batch, D).

    Cost:
        one matrix exponential, D^3 operations, and a product per value.

    Raises:
        ValueError: if dim < 2.

    References:
        Golinski et al. (2019), Improving normalizing flows via better orthogonal parameterizations
        (ICML INNF workshop).
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        dim = check_count("dim", dim, 2)
        self.dim = dim
        rows, columns = torch.tril_indices(dim, dim, -1)
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("columns", columns, persistent=False)
        self.angles = nn.Parameter(torch.zeros(len(rows)))

    def forward_and_log_det(
        self, u: Tensor, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """x = f(u) and log |det dx/du|."""
        return u @ self.matrix().T, u.new_zeros(())

    def inverse_and_log_det(
        self, x: Tensor, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """u = f^-1(x) and log |det du/dx|."""
        return x @ self.matrix(), x.new_zeros(())

    def matrix(self) -> Tensor:
        """exp(A) (D, D)."""
        lower = self.angles.new_zeros(self.dim, self.dim).index_put(
            (self.rows, self.columns), self.angles
        )
        return torch.linalg.matrix_exp(lower - lower.T)


class LU(Transform):
    """A linear map with a positive determinant, by its factors:  x = L U u + b,  log |det dx/du| =
    sum_i log U_ii.

    L is lower triangular with ones on its diagonal, U upper triangular with a positive one. Of an
    array (C, height, width) it maps the channels of each pixel: an invertible 1x1 convolution.

    Args:
        dim: the size D of a vector or the shape (C, height, width) of an array, where D = C.

    Attributes:
        weight: (D, D), L below its diagonal, U above it, log U_ii on it.
        bias: (D,). Zero is the identity.

    Shapes:
        u and x (*batch, D) or (*batch, C, height, width).

    Cost:
        one pass: two triangular products in one direction, two triangular systems in the other.

    Raises:
        ValueError: if dim is neither a size nor the shape of an array.

    References:
        Kingma & Dhariwal (2018), arXiv:1807.03039, eqs. (9) to (11); Durkan et al. (2019),
        arXiv:1906.04032, section 3.2.
    """

    def __init__(self, dim: int | tuple[int, int, int]) -> None:
        super().__init__()
        shape = check_shape("dim", dim)
        if len(shape) not in (1, 3):
            refuse("dim", "a size of at least 1 or a shape (channels, height, width)", dim)
        self.channels, self.num_pixels = shape[0], prod(shape[1:])
        self.is_image = len(shape) == 3
        self.weight = nn.Parameter(torch.zeros(shape[0], shape[0]))
        self.bias = nn.Parameter(torch.zeros(shape[0]))

    def forward_and_log_det(
        self, u: Tensor, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """x = f(u) and log |det dx/du|."""
        lower, upper = self.factors()
        u = u.movedim(-3, -1) if self.is_image else u
        x = u @ upper.T @ lower.T + self.bias
        return x.movedim(-1, -3) if self.is_image else x, self._log_det()

    def inverse_and_log_det(
        self, x: Tensor, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """u = f^-1(x) and log |det du/dx|."""
        lower, upper = self.factors()
        x = x.movedim(-3, -1) if self.is_image else x
        columns = (x - self.bias).reshape(-1, self.channels).T
        half = torch.linalg.solve_triangular(lower, columns, upper=False, unitriangular=True)
        u = torch.linalg.solve_triangular(upper, half, upper=True).T.reshape(x.shape)
        return u.movedim(-1, -3) if self.is_image else u, -self._log_det()

    def factors(self) -> tuple[Tensor, Tensor]:
        """L and U (D, D)."""
        ones = torch.eye(self.channels, dtype=self.weight.dtype, device=self.weight.device)
        return self.weight.tril(-1) + ones, self.weight.triu(
            1
        ) + self.weight.diagonal().exp().diag_embed()

    def _log_det(self) -> Tensor:
        return self.num_pixels * self.weight.diagonal().sum()
