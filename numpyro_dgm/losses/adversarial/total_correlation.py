"""The total correlation of the guide's draws, by a critic that tells them from the same draws with
their dimensions permuted.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array
from jax.nn import log_sigmoid

from dgm_core.arguments import check_count
from numpyro_dgm.joints.joints import Joints
from numpyro_dgm.joints.structure import no_gradient_message
from numpyro_dgm.losses.adversarial.regularizers import Regularizer
from numpyro_dgm.losses.adversarial.term import AdversarialTerm

__all__ = ["TotalCorrelation"]


class TotalCorrelation(AdversarialTerm):
    """TC(z) = KL(q(z), prod_j q(z_j)) of the aggregate posterior q(z) = E_data [q(z | x)],
    estimated as E_q [V(z)] with a critic V that learns the log-ratio.

    `ELBO() + 10.0 * TotalCorrelation("z")` is the FactorVAE.  Draws of the product come from the
    batch itself: each dimension is permuted over it by itself. The critic learns by logistic
    regression; the guide alone follows the estimate, which is no bound.

    Args:
        sites: local latent sites, a name or a tuple of names, flattened and side by side.
        num_particles: draws of the guide per datum.
        critic, optim, critic_steps, regularizer: as in AdversarialTerm.

    Logged:
        "TotalCorrelation(<sites>)", and the critic's mean output as "/real" (of the guide's draws,
        the estimate itself) and "/fake".

    Cost:
        one run of guide and model, and the critic's as in AdversarialTerm.

    Raises:
        ValueError: for sites that are not local latents or not reparameterized, and as
            AdversarialTerm.

    References:
        Kim and Mnih (2018), arXiv:1802.05983, eq. (2) and (3).

    Example:
        >>> TotalCorrelation("z")
        TotalCorrelation('z')
    """

    guided = True

    def __init__(
        self,
        sites: str | tuple[str, ...],
        critic: eqx.Module | None = None,
        *,
        num_particles: int = 1,
        optim: Any = None,
        critic_steps: int = 1,
        regularizer: Regularizer | None = None,
    ) -> None:
        super().__init__(
            sites, critic, optim=optim, critic_steps=critic_steps, regularizer=regularizer
        )
        self.num_particles = check_count("num_particles", num_particles)

    def samples(self, joints: Joints) -> tuple[Array, Array]:
        """The guide's draws, and the same with each dimension permuted over the batch, (num,
        entries) each.
        """
        joint = joints.inference()
        if others := [name for name in self.sites if name not in joint.structure.local_sites]:
            raise ValueError(
                f"{self!r} compares latent sites inside the data plates, "
                f"{list(joint.structure.local_sites)}, but {others} are not among them."
            )
        if fixed := [name for name in self.sites if not joint.is_reparameterized(name)]:
            raise ValueError(
                no_gradient_message(fixed[0], joint.distribution_name(fixed[0]), "guide")
            )
        real = jnp.concatenate([joint.entries(name) for name in self.sites], -1)
        real = real.reshape(-1, real.shape[-1])
        order = jax.random.uniform(joints.key(self.name), real.shape).argsort(
            0
        )  # a permutation in each column
        return real, jnp.take_along_axis(real, order, 0)

    def bound(self, real: Array, fake: Array) -> Array:
        """E_q [log sigmoid(V)] + E_product [log sigmoid(-V)], which the critic maximizes."""
        return log_sigmoid(real).mean() + log_sigmoid(-fake).mean()

    def surrogate(self, real: Array, fake: Array) -> Array:
        """What model and guide minimize."""
        return real.mean()

    def value(self, real: Array, fake: Array) -> Array:
        """The logged quantity."""
        return real.mean()

    def _shown(self) -> dict[str, Any]:
        return {"num_particles": 1, **super()._shown()}
