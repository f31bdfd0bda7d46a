"""What keeps the gradients of critics in bounds: costs that are added to a critic's own."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from dgm_core.arguments import check_flag, check_number
from dgm_core.terms import written
from pyro_dgm.losses.adversarial.divergences import Divergence, divergence
from pyro_dgm.nn.attention import all_derivatives

__all__ = ["R1", "R2", "GradientPenalty", "NoiseRegularizer", "Regularizer"]


class Regularizer(Protocol):
    """A cost that is added to the critic's own: called as regularizer(critic, real, fake, key) ->
    one number.
    """

    def __call__(
        self, critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, key: None = None
    ) -> Tensor: ...


class R1:
    """weight / 2 E_P |grad_x V(x)|^2: the gradient penalty on data alone, with which GAN training
    converges locally.

    References:
        Mescheder, Geiger and Nowozin (2018), arXiv:1801.04406, eq. (9).
    """

    def __init__(self, weight: float = 1.0) -> None:
        self.weight = check_number("weight", weight, above=0)

    def __call__(
        self, critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, key: None = None
    ) -> Tensor:
        return self.weight / 2 * _steepness(critic, real)[1].mean()

    def __repr__(self) -> str:
        return written(self, repr(self.weight))


class R2(R1):
    """weight / 2 E_Q |grad_x V(x)|^2: the same on draws of the model.

    References:
        Mescheder, Geiger and Nowozin (2018), arXiv:1801.04406, eq. (10).
    """

    def __call__(
        self, critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, key: None = None
    ) -> Tensor:
        return self.weight / 2 * _steepness(critic, fake)[1].mean()


class GradientPenalty:
    """weight E (|grad_x V(x)| - 1)^2 at random points between data and draws: a critic that is
    1-Lipschitz where it matters.

    Args:
        weight: positive.
        one_sided: only slopes above one cost, max(0, |grad_x V(x)| - 1)^2.  A slope of -1 costs the
            two-sided penalty nothing, so that a critic with the wrong sign is a local optimum in
            one dimension; it is none here.

    References:
        Gulrajani et al. (2017), arXiv:1704.00028, eq. (3); Petzka, Fischer and Lukovnikov (2018),
        arXiv:1709.08894 (one-sided).
    """

    def __init__(self, weight: float = 10.0, *, one_sided: bool = False) -> None:
        self.weight = check_number("weight", weight, above=0)
        self.one_sided = check_flag("one_sided", one_sided)

    def __call__(
        self, critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, key: None = None
    ) -> Tensor:
        n = min(len(real), len(fake))
        mix = torch.rand(n, *[1] * (real.ndim - 1), dtype=real.dtype, device=real.device)
        squared = _steepness(critic, mix * real[:n] + (1 - mix) * fake[:n])[1]
        excess = (squared + 1e-12).sqrt() - 1
        return self.weight * (excess.relu() if self.one_sided else excess).square().mean()

    def __repr__(self) -> str:
        return written(self, repr(self.weight), one_sided=False)


class NoiseRegularizer:
    """weight / 2 (E_P [(1 - D)^2 |grad_x V|^2] + E_Q [D^2 |grad_x V|^2]),  D = sigmoid(V):  what
    noise of variance `weight` on data and draws would do to a GAN's critic, to first order and
    without the noise.

    A slope costs little where the critic has told its samples apart already.  With `f` that of
    another f-GAN, weight / 2 E_Q [f*''(T) |grad_x T|^2], T = g(V); for f="jensen_shannon" this is
    weight / 2 E_Q [D |grad_x V|^2], which is the two-sided form at the best critic.

    Args:
        weight: the variance.
        f: left out or the name of a row of `divergences` or a row with parameters, that of the
            term.

    Raises:
        ValueError: for a weight that is not positive, an unknown divergence, and total_variation,
            whose conjugate has no curvature.

    References:
        Roth, Lucchi, Nowozin and Hofmann (2017), arXiv:1705.09367.

    Example:
        >>> NoiseRegularizer(0.1, f="kl")
        NoiseRegularizer(0.1, f='kl')
    """

    def __init__(self, weight: float = 1.0, *, f: str | Divergence | None = None) -> None:
        self.weight = check_number("weight", weight, above=0)
        self.f = None if f is None else divergence(f)
        if self.f is not None and self.f.name == "total_variation":
            raise ValueError(
                "The conjugate of total_variation is linear: noise does not change its bound, "
                "and there is nothing to regularize."
            )

    def __call__(
        self, critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, key: None = None
    ) -> Tensor:
        f = self.f
        if f is None:
            (at_real, steep_real), (at_fake, steep_fake) = (
                _steepness(critic, real),
                _steepness(critic, fake),
            )
            penalty = (torch.sigmoid(-at_real).square() * steep_real).mean() + (
                torch.sigmoid(at_fake).square() * steep_fake
            ).mean()
        else:
            bounded, steep = _steepness(lambda x: f.activation(critic(x)), fake)
            penalty = (_curvature(f.conjugate, bounded) * steep).mean()
        return self.weight / 2 * penalty

    def __repr__(self) -> str:
        first = (repr(self.weight), *(() if self.f is None else (f"f={self.f.written}",)))
        return written(self, *first)


class Once:
    """A critic as a regularizer sees it in a step: its outputs at "real" and "fake" are kept, so
    that a gradient there costs no second pass.
    """

    def __init__(self, critic: Callable[[Tensor], Tensor]) -> None:
        self.critic = critic
        self.known: list[tuple[Tensor, Tensor]] = []

    def __call__(self, x: Tensor) -> Tensor:
        for seen, out in self.known:
            if seen is x:
                return out
        return self.critic(x)


def _steepness(critic: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """V(x) and |grad_x V(x)|^2 for each of x (batch, *event)."""
    inputs = x.detach().requires_grad_()
    with torch.enable_grad():
        with all_derivatives():
            out = critic(inputs)
        (gradient,) = torch.autograd.grad(out.sum(), inputs, create_graph=True)
    if isinstance(critic, Once):
        critic.known.append((x, out))
    return out.reshape(len(x)), gradient.reshape(len(x), -1).square().sum(1)


def _curvature(function: Callable[[Tensor], Tensor], t: Tensor) -> Tensor:
    """The second derivative of an elementwise function."""
    (first,) = torch.autograd.grad(function(t).sum(), t, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), t, create_graph=True)
    return second
