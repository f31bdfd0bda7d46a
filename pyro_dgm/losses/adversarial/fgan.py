"""f-GANs: a critic's variational bound on an f-divergence of the two joints, which model and guide
minimize.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from dgm_core.arguments import check_choice
from pyro_dgm.losses.adversarial.divergences import (
    Divergence,
    bregman_objective,
    divergence,
    plug_in_divergence,
    variational_bound,
)
from pyro_dgm.losses.adversarial.regularizers import Regularizer
from pyro_dgm.losses.adversarial.term import AdversarialTerm
from pyro_dgm.losses.base import Weight

__all__ = ["DensityRatio", "FDivergence", "JensenShannon"]


class FDivergence(AdversarialTerm):
    """The bound F = E_P [g(V)] - E_Q [f*(g(V))] <= D_f(P, Q): an f-GAN.

    Args:
        as in AdversarialTerm; f, the name of a row of `divergences` or a row with parameters, as in
        divergence("alpha", alpha=0.5); generator, what model and guide minimize: "saturating", F
        itself, or "non_saturating", E_P [f*(g(V))] - E_Q [g(V)], which has a gradient also where
        the critic is sure.

    Logged:
        "FDivergence(<sites>)", F, below the divergence by as much as the critic is short of the
        best one.

    Raises:
        ValueError: for an unknown divergence, and as AdversarialTerm.

    References:
        Nowozin, Cseke and Tomioka (2016), arXiv:1606.00709, eq. (6) and section 3.2.

    Example:
        >>> FDivergence("x", f="pearson")
        FDivergence('x', f='pearson')
    """

    def __init__(
        self,
        sites: str | tuple[str, ...],
        critic: nn.Module | None = None,
        *,
        f: str | Divergence = "jensen_shannon",
        generator: str = "saturating",
        optim: Any = None,
        critic_steps: int = 1,
        regularizer: Regularizer | None = None,
        instance_noise: Weight = 0.0,
        augment: Callable | None = None,
        past_fakes: int = 0,
    ) -> None:
        own = dict[str, Any](optim=optim, critic_steps=critic_steps, regularizer=regularizer)
        own |= {"augment": augment, "past_fakes": past_fakes}
        super().__init__(sites, critic, instance_noise=instance_noise, **own)
        self.f = divergence(f)
        self.generator = check_choice("generator", generator, ("saturating", "non_saturating"))

    def bound(self, real: Tensor, fake: Tensor) -> Tensor:
        """F."""
        return variational_bound(self.f, real, fake)

    def surrogate(self, real: Tensor, fake: Tensor) -> Tensor:
        """What model and guide minimize."""
        if self.generator == "saturating":
            return self.bound(real, fake)
        return self.f.conjugate_of_activation(real).mean() - self.f.activation(fake).mean()

    def _given(self) -> tuple[str, ...]:
        return *super()._given(), f"f={self.f.written}"

    def _shown(self) -> dict[str, Any]:
        return {"generator": "saturating", **super()._shown()}


class JensenShannon(FDivergence):
    """The GAN objective:  E_P [log D] + E_Q [log(1 - D)] + log 4,  D = sigmoid(V);  at the best
    critic twice the Jensen-Shannon divergence of P and Q.

    Args:
        as in AdversarialTerm; generator, "non_saturating" (model and guide minimize E_Q [-log D] +
        E_P [-log(1 - D)], which has a gradient also where the critic is sure) or "saturating" (they
        minimize the value itself).

    Logged:
        "JensenShannon(<sites>)", in [0, log 4] for a good critic and below for a bad one.

    References:
        Goodfellow et al. (2014), arXiv:1406.2661, eq. (1) and theorem 1.

    Example:
        >>> JensenShannon("x", critic_steps=2)
        JensenShannon('x', critic_steps=2)
    """

    def __init__(
        self,
        sites: str | tuple[str, ...],
        critic: nn.Module | None = None,
        *,
        generator: str = "non_saturating",
        optim: Any = None,
        critic_steps: int = 1,
        regularizer: Regularizer | None = None,
        instance_noise: Weight = 0.0,
        augment: Callable | None = None,
        past_fakes: int = 0,
    ) -> None:
        own = dict[str, Any](optim=optim, critic_steps=critic_steps, regularizer=regularizer)
        own |= {"augment": augment, "past_fakes": past_fakes}
        super().__init__(sites, critic, generator=generator, instance_noise=instance_noise, **own)

    def _given(self) -> tuple[str, ...]:
        return AdversarialTerm._given(self)  # f is no argument here

    def _shown(self) -> dict[str, Any]:
        return {"generator": "non_saturating", **AdversarialTerm._shown(self)}


class DensityRatio(AdversarialTerm):
    """A b-GAN: the critic's output log s models the log-ratio log p/q by a Bregman divergence;
    model and guide minimize D_f with s in place of p/q.

    Args:
        as in AdversarialTerm; f, as in FDivergence ("pearson": least-squares importance fitting).

    Logged:
        "DensityRatio(<sites>)", E_Q [f(s)], neither an upper nor a lower bound on the divergence;
        the critic minimizes E_Q [s f'(s) - f(s)] - E_P [f'(s)].

    Raises:
        ValueError: for an unknown divergence and for total_variation, which tells no ratios apart.

    References:
        Uehara et al. (2016), arXiv:1610.02920.

    Example:
        >>> DensityRatio("x")
        DensityRatio('x', f='pearson')
    """

    def __init__(
        self,
        sites: str | tuple[str, ...],
        critic: nn.Module | None = None,
        *,
        f: str | Divergence = "pearson",
        optim: Any = None,
        critic_steps: int = 1,
        regularizer: Regularizer | None = None,
        instance_noise: Weight = 0.0,
        augment: Callable | None = None,
        past_fakes: int = 0,
    ) -> None:
        own = dict[str, Any](optim=optim, critic_steps=critic_steps, regularizer=regularizer)
        own |= {"augment": augment, "past_fakes": past_fakes}
        super().__init__(sites, critic, instance_noise=instance_noise, **own)
        self.f = divergence(f)
        if self.f.name == "total_variation":
            raise ValueError(
                "The Bregman divergence of total_variation does not determine a density ratio: "
                "choose a strictly convex generator."
            )

    def bound(self, real: Tensor, fake: Tensor) -> Tensor:
        """What the critic maximizes: the Bregman objective with the opposite sign."""
        return -bregman_objective(self.f, real, fake)

    def surrogate(self, real: Tensor, fake: Tensor) -> Tensor:
        """What model and guide minimize."""
        return plug_in_divergence(self.f, fake)

    def value(self, real: Tensor, fake: Tensor) -> Tensor:
        """The logged quantity."""
        return plug_in_divergence(self.f, fake)

    def _given(self) -> tuple[str, ...]:
        return *super()._given(), f"f={self.f.written}"
