"""Coupling flows: one half of a vector is mapped entry by entry, with parameters that a network
reads off the other half; halves take turns.

Both directions cost one pass. A coupling is an autoregressive transform with two blocks: its
Jacobian is triangular.
"""

from collections.abc import Sequence
from itertools import chain

import torch
from torch import Tensor

from dgm_core.arguments import check_count, check_flag, check_instance
from dgm_core.contexts import ContextShape, check_context_shape, context_size
from pyro_dgm.conditionals import Conditional
from pyro_dgm.flows.flow import Flow
from pyro_dgm.flows.linear import LU, Diagonal
from pyro_dgm.flows.scalar import Affine, ScalarMap, Shift, Spline
from pyro_dgm.flows.transform import Transform
from pyro_dgm.nn import MLP
from pyro_dgm.nn.contexts import flat

__all__ = ["NICE", "NSF", "Coupling", "RealNVP"]


class Coupling(Transform):
    """u_i = x_i in one half;  u_i = h(x_i; raw_i),  raw = network(x_kept, c), in the other.

    As in a masked autoregressive flow the network reads the data's side; it is equal on both sides,
    so neither direction is slow.

    Args:
        dim: D.
        scalar: the map h.
        context_shape: of the context (0 = none).
        hidden, activation: of the network.
        swap: keep the second half (the last D - D // 2 entries) and map the first, instead of the
            other way round.

    Shapes:
        u and x (*batch, D), context (*batch, *context_shape); log-determinants (*batch,).

    Cost:
        one pass of the network in each direction, and what the scalar map costs.

    Raises:
        ValueError: if dim < 2.

    References:
        Dinh et al. (2017), arXiv:1605.08803, eqs. (4) to (8).

    Example:
        >>> x, log_det = Coupling(3).forward_and_log_det(torch.zeros(5, 3))
        >>> x.shape, log_det.shape
        (torch.Size([5, 3]), torch.Size([5]))
    """

    def __init__(
        self,
        dim: int,
        scalar: ScalarMap = Affine(),  # noqa: B008, it is frozen
        *,
        context_shape: ContextShape = 0,
        hidden: Sequence[int] = (64, 64),
        activation: str = "relu",
        swap: bool = False,
    ) -> None:
        super().__init__()
        dim = check_count("dim", dim, 2)
        check_instance("scalar", scalar, ScalarMap, "a scalar map such as Affine()")
        self.scalar, self.first, self.swap, self.context_shape = (
            scalar,
            dim // 2,
            check_flag("swap", swap),
            check_context_shape("context_shape", context_shape),
        )
        kept = dim - self.first if swap else self.first
        self.network = MLP(
            kept + context_size(context_shape),
            hidden,
            (dim - kept) * scalar.num_params,
            activation=activation,
        )
        with torch.no_grad():  # near raw = 0, which is the identity for most scalar maps
            for parameter in self.network.layers[-1].parameters():
                parameter.mul_(0.01)

    @property
    def forward_cost(self) -> str:
        """What `forward_and_log_det` costs."""
        return (
            "one pass"
            if self.scalar.inverse_cost == "closed form"
            else f"one pass and a {self.scalar.inverse_cost}"
        )

    def forward_and_log_det(
        self, u: Tensor, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """x = f(u; c) and log |det dx/du|."""
        kept, mapped, raw = self._halves(u, context)
        mapped, log_slope = self.scalar.invert(mapped, raw)
        return self._whole(kept, mapped), log_slope.sum(-1)

    def inverse_and_log_det(
        self, x: Tensor, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """u = f^-1(x; c) and log |det du/dx|."""
        kept, mapped, raw = self._halves(x, context)
        mapped, log_slope = self.scalar(mapped, raw)
        return self._whole(kept, mapped), log_slope.sum(-1)

    def _halves(self, value: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """The half that is kept, the one that is mapped, and the parameters of the map."""
        kept, mapped = value[..., : self.first], value[..., self.first :]
        if self.swap:
            kept, mapped = mapped, kept
        features = kept
        if context is not None and self.context_shape:
            context = flat(context, self.context_shape)
            batch_shape = torch.broadcast_shapes(value.shape[:-1], context.shape[:-1])
            kept = kept.expand(*batch_shape, -1)
            features = torch.cat([kept, context.expand(*batch_shape, -1)], -1)
        return kept, mapped, self.network(features).unflatten(-1, (-1, self.scalar.num_params))

    def _whole(self, kept: Tensor, mapped: Tensor) -> Tensor:
        return torch.cat([mapped, kept] if self.swap else [kept, mapped], -1)


def _couplings(
    dim: int,
    scalar: ScalarMap,
    num_layers: int,
    context_shape: ContextShape,
    hidden: Sequence[int],
    activation: str,
) -> list[Transform]:
    """Couplings in which halves take turns."""
    return [
        Coupling(
            dim,
            scalar,
            context_shape=context_shape,
            hidden=hidden,
            activation=activation,
            swap=i % 2 == 1,
        )
        for i in range(check_count("num_layers", num_layers))
    ]


class _CouplingFlow(Flow):
    """A flow with couplings, whose networks have the sizes `hidden`."""

    num_layers: int
    hidden: tuple[int, ...]

    def __init__(
        self,
        dim: int,
        transforms: Sequence[Transform],
        num_layers: int,
        hidden: Sequence[int],
        context_shape: ContextShape,
        base: Conditional | None,
    ) -> None:
        super().__init__(dim, transforms, context_shape=context_shape, base=base)
        self.num_layers, self.hidden = num_layers, tuple(hidden)

    def _sizes(self) -> tuple[str, ...]:
        return f"num_layers={self.num_layers}", f"hidden={self.hidden}"


class NICE(_CouplingFlow):
    """Additive couplings, which keep volumes, under a diagonal scaling:  x = exp(s) g(u),  log |det
    dx/du| = sum_i s_i.

    Args:
        dim: D, at least 2.
        context_shape: 0 = unconditional.
        num_layers: couplings.
        hidden, activation: of their networks.
        base: as in `Flow`.

    Shapes:
        context (*batch, *context_shape) -> batch_shape (*batch,), event_shape (D,).

    Cost:
        one pass in each direction.

    Raises:
        ValueError: if dim < 2 or num_layers < 1.

    References:
        Dinh et al. (2014), arXiv:1410.8516.

    Example:
        >>> NICE(4)().sample((5,)).shape
        torch.Size([5, 4])
    """

    def __init__(
        self,
        dim: int,
        *,
        context_shape: ContextShape = 0,
        num_layers: int = 8,
        hidden: Sequence[int] = (64, 64),
        activation: str = "relu",
        base: Conditional | None = None,
    ) -> None:
        couplings = _couplings(dim, Shift(), num_layers, context_shape, hidden, activation)
        parts = [*couplings, Diagonal(dim)]
        super().__init__(dim, parts, num_layers, hidden, context_shape, base)


class RealNVP(_CouplingFlow):
    """Affine couplings, in which halves take turns:  u_i = m_i(x_kept, c) + exp(a_i(x_kept, c))
    x_i.

    Args:
        dim: D, at least 2.
        context_shape: 0 = unconditional.
        num_layers: couplings.
        hidden, activation: of their networks.
        base: as in `Flow`.

    Shapes:
        context (*batch, *context_shape) -> batch_shape (*batch,), event_shape (D,).

    Cost:
        one pass in each direction.

    Raises:
        ValueError: if dim < 2 or num_layers < 1.

    References:
        Dinh et al. (2017), arXiv:1605.08803.

    Example:
        >>> RealNVP(4)().sample((5,)).shape
        torch.Size([5, 4])
    """

    def __init__(
        self,
        dim: int,
        *,
        context_shape: ContextShape = 0,
        num_layers: int = 8,
        hidden: Sequence[int] = (64, 64),
        activation: str = "relu",
        base: Conditional | None = None,
    ) -> None:
        couplings = _couplings(dim, Affine(), num_layers, context_shape, hidden, activation)
        super().__init__(dim, couplings, num_layers, hidden, context_shape, base)


class NSF(_CouplingFlow):
    """Neural spline flow with couplings: monotone rational-quadratic splines, and between them
    learned linear maps.

    Args:
        dim: D, at least 2.
        context_shape: 0 = unconditional.
        num_layers: couplings.
        num_bins, bound: of the splines, which are the identity outside [-bound, bound].
        hidden, activation: of the networks.
        base: as in `Flow`.

    Shapes:
        context (*batch, *context_shape) -> batch_shape (*batch,), event_shape (D,).

    Cost:
        one pass in each direction, and two triangular systems in one of them.

    Raises:
        ValueError: if dim < 2, num_layers < 1, num_bins < 2 or bound is not positive.

    References:
        Durkan et al. (2019), arXiv:1906.04032, RQ-NSF (C).

    Example:
        >>> NSF(4)().sample((5,)).shape
        torch.Size([5, 4])
    """

    def __init__(
        self,
        dim: int,
        *,
        context_shape: ContextShape = 0,
        num_layers: int = 8,
        num_bins: int = 8,
        bound: float = 5.0,
        hidden: Sequence[int] = (64, 64),
        activation: str = "relu",
        base: Conditional | None = None,
    ) -> None:
        couplings = _couplings(
            dim, Spline(num_bins, bound), num_layers, context_shape, hidden, activation
        )
        mixed = chain.from_iterable((coupling, LU(dim)) for coupling in couplings)
        super().__init__(dim, list(mixed), num_layers, hidden, context_shape, base)
