"""Radial flows: each layer stretches or squeezes space around one point."""

import torch
from torch import Tensor

from dgm_core.arguments import check_count
from dgm_core.contexts import ContextShape
from pyro_dgm.conditionals import Conditional, positive
from pyro_dgm.flows.context_linear.base import ParametricTransform
from pyro_dgm.flows.flow import Flow

__all__ = ["Radial", "RadialLayer"]


class RadialLayer(ParametricTransform):
    """x = u + b (u - z) / (a + r),  r = |u - z|,  a > 0, which is invertible for b > -a.

    With s = (a + b) / a > 0:  log |det dx/du| = (D - 1) log((r + a s) / (r + a)) + log((r^2 + 2 a r
    + a^2 s) / (r + a)^2). z, a = positive(raw_a) and s = positive(raw_s) are free or linear in the
    context.

    Args:
        dim: D.
        context_shape: 0 = free parameters.

    Shapes:
        u and x (*batch, D), context (*batch, *context_shape).

    Cost:
        D + 2 parameters; about 6 D operations in each direction: |x - z| is a quadratic equation in
        r.

    References:
        Rezende & Mohamed (2015), arXiv:1505.05770, eq. (14) and appendix A.2.
    """

    def __init__(self, dim: int, *, context_shape: ContextShape = 0) -> None:
        dim = check_count("dim", dim)
        super().__init__(dim + 2, context_shape=context_shape)
        self.dim = dim

    def forward_and_log_det(
        self, u: Tensor, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """x = f(u; c) and log |det dx/du|."""
        z, a, s = self._parts(context)
        r = _norm(u - z)
        return z + ((r + a * s) / (r + a))[..., None] * (u - z), self._log_det(r, a, s)

    def inverse_and_log_det(
        self, x: Tensor, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """u = f^-1(x; c) and log |det du/dx|."""
        z, a, s = self._parts(context)
        far = _norm(x - z)
        excess = a * s - far  # r^2 + excess r - a far = 0
        root = (excess**2 + 4 * a * far).sqrt()
        r = torch.where(
            excess > 0, 2 * a * far / (root + excess.abs()), (root - excess) / 2
        )  # neither form cancels
        return z + ((r + a) / (r + a * s))[..., None] * (x - z), -self._log_det(r, a, s)

    def _parts(self, context: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        raw = self.raw(context)
        return raw[..., : self.dim], positive(raw[..., -2], 1e-3), positive(raw[..., -1], 1e-3)

    def _log_det(self, r: Tensor, a: Tensor, s: Tensor) -> Tensor:
        return (self.dim - 1) * ((r + a * s) / (r + a)).log() + (
            (r**2 + 2 * a * r + a**2 * s) / (r + a) ** 2
        ).log()


def _norm(x: Tensor) -> Tensor:
    return x.square().sum(-1).clamp(min=torch.finfo(x.dtype).tiny).sqrt()  # with a gradient at zero


class Radial(Flow):
    """A stack of radial layers:  u_l = u_{l-1} + b_l (u_{l-1} - z_l) / (a_l + |u_{l-1} - z_l|),
    b_l > -a_l.

    Args:
        dim: D.
        context_shape: 0 = unconditional; else z, a and b depend on the context.
        num_layers: the number of layers.
        base: as in `Flow`.

    Shapes:
        context (*batch, *context_shape) -> batch_shape (*batch,), event_shape (D,).

    Cost:
        (D + 2) num_layers parameters and about 6 D num_layers operations, in each direction.

    Raises:
        ValueError: if num_layers < 1.

    References:
        Rezende & Mohamed (2015), arXiv:1505.05770.

    Example:
        >>> Radial(4)().sample((5,)).shape
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
        layers = [
            RadialLayer(dim, context_shape=context_shape)
            for _ in range(check_count("num_layers", num_layers))
        ]
        super().__init__(dim, layers, context_shape=context_shape, base=base)
        self.num_layers = num_layers

    def _sizes(self) -> tuple[str, ...]:
        return (f"num_layers={self.num_layers}",)
