"""Skewness and weight of the tails, coordinate by coordinate: what no affine layer changes."""

from math import log

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from dgm_core.arguments import check_count
from pyro_dgm.flows.transform import Transform

__all__ = ["SinhArcsinh"]


class SinhArcsinh(Transform):
    """x_i = sinh(p_i (asinh(u_i) + e_i)),  p = 2 / (1 + exp(-2 t)).

    Far out |x| grows as |u|^p: of normal noise the tails are heavier for p > 1, at most
    exponential (p = 2), and lighter for p < 1; e > 0 leans them to the right.  It starts as the
    identity.  As the last layer of a flow it lets the ends of a posterior be other than the
    noise's, so that importance weights stay bounded where affine layers leave too little mass.

    Args:
        dim: D.

    Attributes:
        skewness: (D,), e.
        tail: (D,), t.

    Shapes:
        u and x (*batch, D).

    Raises:
        ValueError: if dim < 1.

    References:
        Jones and Pewsey (2009), Sinh-arcsinh distributions, Biometrika 96; Jaini et al. (2020),
        Tails of Lipschitz triangular flows, arXiv:1907.04481.

    Example:
        >>> SinhArcsinh(2).forward_and_log_det(torch.tensor([0.0, 3.0]))[0].round(decimals=4)
        tensor([0., 3.], grad_fn=<RoundBackward1>)
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        dim = check_count("dim", dim)
        self.skewness, self.tail = (nn.Parameter(torch.zeros(dim)) for _ in range(2))

    def forward_and_log_det(
        self, u: Tensor, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """x = f(u) and log |det dx/du|."""
        log_power = self._log_power()
        inner = torch.asinh(u)
        outer = log_power.exp() * (inner + self.skewness)
        x = torch.sinh(outer)
        return x, (log_power + _log_cosh(x) - _log_cosh(u)).sum(-1)

    def inverse_and_log_det(
        self, x: Tensor, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """u = f^-1(x) and log |det du/dx|."""
        log_power = self._log_power()
        outer = torch.asinh(x)
        inner = outer * (-log_power).exp() - self.skewness
        u = torch.sinh(inner)
        return u, (_log_cosh(u) - _log_cosh(x) - log_power).sum(-1)

    def _log_power(self) -> Tensor:
        return log(2.0) + logsigmoid(2.0 * self.tail)


def _log_cosh(x: Tensor) -> Tensor:
    """log cosh asinh x."""
    return 0.5 * torch.log1p(x * x)
