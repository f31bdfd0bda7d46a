"""Planar flows: each layer stretches or squeezes space across one hyperplane."""

import torch
from torch import Tensor

from dgm_core.arguments import check_count
from dgm_core.contexts import ContextShape
from pyro_dgm.conditionals import Conditional, positive
from pyro_dgm.flows.context_linear.base import ParametricTransform
from pyro_dgm.flows.flow import Flow
from pyro_dgm.flows.roots import increasing_root
from pyro_dgm.nn.special import sech_squared

__all__ = ["Planar", "PlanarLayer"]


def bend(v: Tensor, size: Tensor, slope: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """v + size tanh(slope v + shift), increasing in v if size * slope > -1, and its log-slope.

    Example:
        >>> bend(torch.tensor(0.0), torch.tensor(2.0), torch.tensor(1.0), torch.tensor(0.0))
        (tensor(0.), tensor(1.0986))
    """
    inner = slope * v + shift
    bent = torch.log1p(size * slope * sech_squared(inner))
    return v + size * torch.tanh(inner), bent


def unbend(value: Tensor, size: Tensor, slope: Tensor, shift: Tensor) -> Tensor:
    """v with `bend(v, size, slope, shift)` = (value, ...), by a safeguarded root search.

    Example:
        >>> unbend(torch.tensor(0.0), torch.tensor(2.0), torch.tensor(1.0), torch.tensor(0.0))
        tensor(0.)
    """
    return increasing_root(bend, value, value - size.abs(), value + size.abs(), size, slope, shift)


class PlanarLayer(ParametricTransform):
    """x = u + v tanh(w'u + b),  log |det dx/du| = log(1 + w'v sech^2(w'u + b)), which is invertible
    for w'v > -1.

    v = v_free + (m - w'v_free) w / |w|^2 has w'v = m = positive(w'v_free) - 1 > -1; v, w and b are
    free or linear in the context.

    Args:
        dim: D.
        context_shape: 0 = free parameters.

    Shapes:
        u and x (*batch, D), context (*batch, *context_shape).

    Cost:
        2 D + 1 parameters; forward 6 D operations; the inverse a root search in one number, w'u.

    References:
        Rezende & Mohamed (2015), arXiv:1505.05770, eqs. (10) to (12) and appendix A.1.
    """

    def __init__(self, dim: int, *, context_shape: ContextShape = 0) -> None:
        dim = check_count("dim", dim)
        super().__init__(2 * dim + 1, context_shape=context_shape)
        self.dim = dim

    @property
    def inverse_cost(self) -> str:
        """What `inverse_and_log_det` costs."""
        return "root search"

    def forward_and_log_det(
        self, u: Tensor, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """x = f(u; c) and log |det dx/du|."""
        v, w, b, m = self.parts(context)
        along = (w * u).sum(-1)
        return u + v * torch.tanh(along + b)[..., None], bend(along, m, torch.ones_like(m), b)[1]

    def inverse_and_log_det(
        self, x: Tensor, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """u = f^-1(x; c) and log |det du/dx|."""
        v, w, b, m = self.parts(context)
        ones = torch.ones_like(m)
        along = unbend((w * x).sum(-1), m, ones, b)  # w'x = w'u + w'v tanh(w'u + b)
        return x - v * torch.tanh(along + b)[..., None], -bend(along, m, ones, b)[1]

    def parts(self, context: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """v (*batch, D), w (*batch, D), b (*batch,) and m = w'v (*batch,)."""
        raw = self.raw(context)
        free, w, b = raw[..., : self.dim], raw[..., self.dim : -1], raw[..., -1]
        product = (w * free).sum(-1)
        m = positive(product, 1e-3) - 1.0  # a slope of at least 1e-3
        square = w.square().sum(-1).clamp(min=torch.finfo(w.dtype).tiny)
        return free + ((m - product) / square)[..., None] * w, w, b, m


class Planar(Flow):
    """A stack of planar layers:  u_l = u_{l-1} + v_l tanh(w_l'u_{l-1} + b_l),  w_l'v_l > -1.

    Args:
        dim: D.
        context_shape: 0 = unconditional; else v, w and b are linear in the context.
        num_layers: the number of layers.
        base: as in `Flow`.

    Shapes:
        context (*batch, *context_shape) -> batch_shape (*batch,), event_shape (D,).

    Cost:
        a draw and its density (2 D + 1) num_layers parameters and about 6 D num_layers operations;
        any other value num_layers root searches.

    Raises:
        ValueError: if num_layers < 1.

    References:
        Rezende & Mohamed (2015), arXiv:1505.05770.

    Example:
        >>> Planar(4)().sample((5,)).shape
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
            PlanarLayer(dim, context_shape=context_shape)
            for _ in range(check_count("num_layers", num_layers))
        ]
        super().__init__(dim, layers, context_shape=context_shape, base=base)
        self.num_layers = num_layers

    def _sizes(self) -> tuple[str, ...]:
        return (f"num_layers={self.num_layers}",)
