"""The Wasserstein distance through its dual: the best critic among those with slope at most one."""

from typing import Any

import equinox as eqx
from jax import Array

from dgm_core.arguments import check_callable, check_number
from numpyro_dgm.losses.adversarial.regularizers import GradientPenalty, Regularizer
from numpyro_dgm.losses.adversarial.term import AdversarialTerm
from numpyro_dgm.losses.base import Weight

__all__ = ["Wasserstein"]


class Wasserstein(AdversarialTerm):
    """W_1(P, Q) = sup_{|V|_Lip <= 1} E_P [V] - E_Q [V]: a Wasserstein GAN.

    Args: as in AdversarialTerm; penalty, what keeps the critic's slope near one (default
        GradientPenalty(10.0)); clip, the largest absolute value of the critic's weights, after each
        update (then the slope is bounded by some constant, and there is no penalty by default);
        critic_steps, 5 by default.
    Logged: "Wasserstein(<sites>)", E_P [V] - E_Q [V].
    Raises: ValueError for a clip that is not positive, and as AdversarialTerm.
    References: Arjovsky, Chintala and Bottou (2017), arXiv:1701.07875; Gulrajani et al. (2017),
        arXiv:1704.00028.

    >>> Wasserstein("x", clip=0.01)
    Wasserstein('x', clip=0.01, critic_steps=5)
    """

    def __init__(
        self,
        sites: str | tuple[str, ...],
        critic: eqx.Module | None = None,
        *,
        penalty: Regularizer | None = None,
        clip: float | None = None,
        optim: Any = None,
        critic_steps: int = 5,
        instance_noise: Weight = 0.0,
    ) -> None:
        if penalty is not None:
            check_callable("penalty", penalty, "a cost of the critic such as GradientPenalty()")
        if clip is not None:
            clip = check_number("clip", clip, above=0)
        regularizer = GradientPenalty(10.0) if penalty is None and clip is None else penalty
        super().__init__(
            sites,
            critic,
            optim=optim,
            critic_steps=critic_steps,
            regularizer=regularizer,
            instance_noise=instance_noise,
        )
        self.clip = clip

    def bound(self, real: Array, fake: Array) -> Array:
        """E_P [V] - E_Q [V]."""
        return real.mean() - fake.mean()

    def constrained(self, weight: Array) -> Array:
        """A weight of the critic after an update, brought back to where it may lie."""
        return weight if self.clip is None else weight.clip(-self.clip, self.clip)

    def _settings(self) -> str:
        return "" if self.clip is None else f", clip={self.clip!r}"
