"""Networks of reverse models: r(a | c) of what a guide draws beyond its model."""

from typing import Any

import torch
from torch import Tensor, nn

from dgm_core.guides import built
from pyro_dgm.conditionals import Conditional, DiagonalNormal, FullRankNormal
from pyro_dgm.nn import MLP

__all__: list[str] = []  # for the package, not for users

LARGEST = 32  # entries of a normal with all covariances, where nothing else is said


class Lifted(nn.Module):
    """A vector and features of it, (x, MLP(x)): what is linear in these is linear in x as well."""

    def __init__(self, size: int, hidden: tuple[int, ...]) -> None:
        super().__init__()
        self.network = MLP(size, hidden, activation="tanh") if hidden else None
        self.out_dim = size + (hidden[-1] if hidden else 0)

    def forward(self, x: Tensor) -> Tensor:
        """(*batch, size) -> (*batch, out_dim)."""
        return x if self.network is None else torch.cat([x, self.network(x)], -1)


class Reverse(nn.Module):
    """r(a | c) of `dim` entries; where its family has a linear head, that starts at zero, so that
    a normal r starts as a standard one."""

    def __init__(self, family: Any, dim: int, context: int, hidden: tuple[int, ...]) -> None:
        super().__init__()
        self.network = Lifted(context, hidden)
        family = family or (FullRankNormal if dim <= LARGEST else DiagonalNormal)
        size = self.network.out_dim
        self.family = without_head(built(family, dim, size, Conditional, "reverse"))

    def forward(self, context: Tensor) -> Any:
        """The distribution given c."""
        return self.family(self.network(context))


def without_head(conditional: Conditional) -> Conditional:
    """A conditional whose linear head, where it has one, is zero."""
    head = getattr(conditional, "head", None)
    if head is not None:
        for parameter in head.parameters():
            nn.init.zeros_(parameter)
    return conditional
