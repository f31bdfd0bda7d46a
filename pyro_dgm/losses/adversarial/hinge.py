"""The hinge loss of a critic: no more than a margin of one counts."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from pyro_dgm.losses.adversarial.regularizers import Regularizer
from pyro_dgm.losses.adversarial.term import AdversarialTerm
from pyro_dgm.losses.base import Weight

__all__ = ["Hinge"]


class Hinge(AdversarialTerm):
    """2 - E_P [max(0, 1 - V)] - E_Q [max(0, 1 + V)] <= 2 TV(P, Q) = int |p - q|, with equality at
    V = sign(p - q): the objective of SAGAN and BigGAN.

    The critic maximizes it, which is to minimize the hinge loss L_D, two minus it. Model and guide
    follow E_P [V] - E_Q [V], of which the second part is the L_G of a generator.

    Args:
        as in AdversarialTerm.

    Logged:
        "Hinge(<sites>)", at most 2 and, for a good critic, from 0 on.

    Raises:
        ValueError: as AdversarialTerm.

    References:
        Lim and Ye (2017), arXiv:1705.02894; Miyato et al. (2018), arXiv:1802.05957, equations 16
        and 17.

    Example:
        >>> Hinge("x", past_fakes=50)
        Hinge('x', past_fakes=50)
    """

    def __init__(
        self,
        sites: str | tuple[str, ...],
        critic: nn.Module | None = None,
        *,
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

    def bound(self, real: Tensor, fake: Tensor) -> Tensor:
        """2 - E_P [max(0, 1 - V)] - E_Q [max(0, 1 + V)]."""
        return 2 - (1 - real).relu().mean() - (1 + fake).relu().mean()

    def surrogate(self, real: Tensor, fake: Tensor) -> Tensor:
        """What model and guide minimize."""
        return real.mean() - fake.mean()
