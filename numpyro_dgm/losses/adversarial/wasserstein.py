"""The Wasserstein distance through its dual: the best critic among those with slope at most one."""

from collections.abc import Callable
from typing import Any, Literal

import equinox as eqx
from jax import Array

from dgm_core.arguments import check_callable, check_flag, check_number
from numpyro_dgm.losses.adversarial.regularizers import GradientPenalty, Regularizer
from numpyro_dgm.losses.adversarial.term import AdversarialTerm
from numpyro_dgm.losses.base import Weight

__all__ = ["Wasserstein"]


class Wasserstein(AdversarialTerm):
    """W_1(P, Q) = sup_{|V|_Lip <= 1} E_P [V] - E_Q [V]: a Wasserstein GAN.

    Args:
        sites, critic, optim, instance_noise, augment, past_fakes: as in AdversarialTerm.
        penalty: a cost that keeps the critic's slope near one; "default" is GradientPenalty(10.0),
            None no penalty, for a critic that is 1-Lipschitz by itself: one with
            spectral_norm=True, which takes the place of penalty and clip.
        one_sided: whether the default penalty counts slopes above one only, as the bound asks; the
            two-sided one can leave a critic of one dimension with the wrong sign.
        clip: the largest absolute value of the critic's weights, after each update; the slope is
            then bounded by some constant, and there is no penalty by default.
        critic_steps: the updates of the critic in a step, 5 by default.

    Logged:
        "Wasserstein(<sites>)", E_P [V] - E_Q [V].

    Raises:
        ValueError: for a clip that is not positive, and as AdversarialTerm.

    References:
        Arjovsky, Chintala and Bottou (2017), arXiv:1701.07875; Gulrajani et al. (2017),
        arXiv:1704.00028.

    Example:
        >>> Wasserstein("x", clip=0.01)
        Wasserstein('x', clip=0.01)
    """

    def __init__(
        self,
        sites: str | tuple[str, ...],
        critic: eqx.Module | None = None,
        *,
        penalty: Regularizer | Literal["default"] | None = "default",
        one_sided: bool = False,
        clip: float | None = None,
        optim: Any = None,
        critic_steps: int = 5,
        instance_noise: Weight = 0.0,
        augment: Callable | None = None,
        past_fakes: int = 0,
    ) -> None:
        if penalty not in ("default", None):
            check_callable("penalty", penalty, "a cost such as GradientPenalty(), or None")
        if check_flag("one_sided", one_sided) and (penalty != "default" or clip is not None):
            raise ValueError(
                "one_sided=True says which penalty to take: leave out penalty and clip."
            )
        if clip is not None:
            clip = check_number("clip", clip, above=0)
        regularizer: Any = penalty
        if penalty == "default":
            regularizer = GradientPenalty(one_sided=one_sided) if clip is None else None
        super().__init__(
            sites,
            critic,
            optim=optim,
            critic_steps=critic_steps,
            regularizer=regularizer,
            instance_noise=instance_noise,
            augment=augment,
            past_fakes=past_fakes,
        )
        self.penalty, self.one_sided, self.clip = penalty, one_sided, clip

    def bound(self, real: Array, fake: Array) -> Array:
        """E_P [V] - E_Q [V]."""
        return real.mean() - fake.mean()

    def constrained(self, weight: Array) -> Array:
        """A weight of the critic after an update, brought back to where it may lie."""
        return weight if self.clip is None else weight.clip(-self.clip, self.clip)

    def _shown(self) -> dict[str, Any]:
        own = {"penalty": "default", "one_sided": False, "clip": None}
        return {**own, **super()._shown(), "critic_steps": 5, "regularizer": self.regularizer}
