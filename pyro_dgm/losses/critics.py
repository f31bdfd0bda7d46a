"""Critics: networks from the values of the compared sites to one number, and what keeps their gradients in bounds."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from pyro_dgm.nn import MLP

__all__ = ["R1", "R2", "Critic", "GradientPenalty", "Regularizer"]


class Critic(nn.Module):
    """The default critic: an MLP from the flattened values of the sites to one number.

    Args: dim, the number of entries of all compared sites together; hidden; activation, as in MLP.
    Shapes: x (batch, *event) with dim entries each -> (batch,).
    Raises: ValueError for a size below 1 or an unknown activation.

    >>> Critic(64)(torch.zeros(5, 64)).shape
    torch.Size([5])
    """

    def __init__(self, dim: int, *, hidden: Sequence[int] = (128, 128), activation: str = "leaky_relu") -> None:
        super().__init__()
        self.network = MLP(dim, hidden, 1, activation=activation)

    def forward(self, x: Tensor) -> Tensor:
        """One number for each of x (batch, *event)."""
        return self.network(x.reshape(len(x), -1)).squeeze(-1)


class Regularizer(Protocol):
    """A cost that is added to the critic's own: called as regularizer(critic, real, fake, key) -> one number."""

    def __call__(self, critic: nn.Module, real: Tensor, fake: Tensor, key: None = None) -> Tensor: ...


class R1:
    """weight / 2 E_P |grad_x V(x)|^2: the gradient penalty on data alone, with which GAN training converges locally.

    Reference: Mescheder, Geiger and Nowozin (2018), arXiv:1801.04406, eq. (9).
    """

    def __init__(self, weight: float = 1.0) -> None:
        self.weight = _check_weight(weight)

    def __call__(self, critic: nn.Module, real: Tensor, fake: Tensor, key: None = None) -> Tensor:
        return self.weight / 2 * _squared_gradient(critic, real).mean()

    def __repr__(self) -> str:
        return f"R1({self.weight!r})"


class R2(R1):
    """weight / 2 E_Q |grad_x V(x)|^2: the same on draws of the model.

    Reference: Mescheder, Geiger and Nowozin (2018), arXiv:1801.04406, eq. (10).
    """

    def __call__(self, critic: nn.Module, real: Tensor, fake: Tensor, key: None = None) -> Tensor:
        return self.weight / 2 * _squared_gradient(critic, fake).mean()

    def __repr__(self) -> str:
        return f"R2({self.weight!r})"


class GradientPenalty:
    """weight E (|grad_x V(x)| - 1)^2 at random points between data and draws: a critic that is 1-Lipschitz where it matters.

    Reference: Gulrajani et al. (2017), arXiv:1704.00028, eq. (3).
    """

    def __init__(self, weight: float = 10.0) -> None:
        self.weight = _check_weight(weight)

    def __call__(self, critic: nn.Module, real: Tensor, fake: Tensor, key: None = None) -> Tensor:
        n = min(len(real), len(fake))
        mix = torch.rand(n, *[1] * (real.ndim - 1), dtype=real.dtype, device=real.device)
        squared = _squared_gradient(critic, mix * real[:n] + (1 - mix) * fake[:n])
        return self.weight * ((squared + 1e-12).sqrt() - 1).square().mean()

    def __repr__(self) -> str:
        return f"GradientPenalty({self.weight!r})"


def _squared_gradient(critic: nn.Module, x: Tensor) -> Tensor:
    """|grad_x V(x)|^2 for each of x (batch, *event)."""
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
    return gradient.reshape(len(gradient), -1).square().sum(1)


def _check_weight(weight: float) -> float:
    if not weight > 0:
        raise ValueError(f"The weight of a regulariser must be positive, got {weight!r}.")
    return float(weight)
