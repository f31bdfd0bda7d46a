"""Terms that distributions bring themselves: what the distribution of a site wants to be small
beside -log p.

A conditional whose distribution has a method `objective(value)` is trained by `Objective`;
`Commitment` is that of quantizers.
"""

import torch
from torch import Tensor

from dgm_core.arguments import check_name, check_weight
from dgm_core.schedules import weight_of
from dgm_core.terms import as_asked, no_commitment, no_objective
from pyro_dgm.joints.inference import InferenceJoint
from pyro_dgm.joints.joints import Joints
from pyro_dgm.losses.base import Term, Weight
from pyro_dgm.losses.bounds.elbo import score_surrogate
from pyro_dgm.losses.formulas import attach_gradient

__all__ = ["Commitment", "Objective"]


class Objective(Term):
    """What the distributions of a site want to be small:  E_q [objective(value)], per datum.

    A distribution that a conditional returns may have a method `objective(value)`, which gives one
    number for each value, (*batch,), or a dict of such parts: score matching, a diffusion's
    denoising error, the codes of a quantizer. In NumPyro a method that draws takes a `key` too.
    Model and guide are both asked; masks, scales and plates count as they do for log p.

    Args:
        site: whose distributions are asked, at the guide's draw or the observed value.

    Logged:
        "Objective(<site>)", the sum of the parts.

    Cost:
        one run of guide and model, and what the distribution does.  Sites before it that are not
        reparameterized take the score function, as in ELBO.

    Raises:
        ValueError: where no distribution of the site has an objective.

    Example:
        >>> Objective("x")
        Objective('x')
    """

    guided = False

    def __init__(self, site: str) -> None:
        super().__init__()
        self.site = check_name("site", site)
        self.sites = self.objectives = (self.site,)

    @property
    def name(self) -> str:  # type: ignore[override]
        """The class and the site."""
        return f"{type(self).__name__}({self.site})"

    def estimate(self, joints: Joints, step: int | Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        joint = joints.inference()
        cost = self.cost(joint, step)
        nothing = torch.zeros_like(cost)
        within = self.site not in joint.structure.global_sites
        local, shared = (cost, nothing) if within else (nothing, cost)
        total = joint.per_datum(joint.expected(local), shared if not within else 0.0)
        surrogate = total + score_surrogate(joint, local, total, every_site=False)
        return attach_gradient(total.mean(), surrogate.mean()), {}

    def cost(self, joint: InferenceJoint, step: int | Tensor) -> Tensor:
        """What is minimized, (num_particles, *sizes)."""
        (asked,) = map(as_asked, self.objectives)
        parts = self.chosen(joint.objectives(asked))
        if not parts:
            known = drawn_from(joint, self.site)
            raise ValueError(no_objective(type(self).__name__, asked, known))
        return sum(parts[1:], parts[0])

    def chosen(self, parts: dict[str, Tensor]) -> list[Tensor]:
        """The parts of an answer that are summed."""
        return list(parts.values())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.site!r})"


class Commitment(Objective):
    """What keeps vectors and codes together:  weight |c - sg(e)|^2 / D,  and |sg(c) - e|^2 / D
    where gradients train the codes;  e the code of c, sg without gradient.

    Means over the D entries of a value and its positions, as a mean squared error beside another:
    beside nats per datum `P * Commitment("z")` has the same balance, P the number of pixels.

    Args:
        site: which the guide draws from a quantizer.
        weight: of the first part (beta), a number or a schedule.

    Logged:
        "Commitment(<site>)", the weighted sum.

    Cost:
        one run of the guide.

    Raises:
        ValueError: for a weight below zero, and a site that no quantizer draws.

    References:
        van den Oord, Vinyals & Kavukcuoglu (2017), arXiv:1711.00937, equation 3.

    Example:
        >>> from pyro_dgm.losses import Reconstruction
        >>> Reconstruction() + Commitment("z", 0.25)
        Reconstruction() + Commitment('z', 0.25)
    """

    guided = True

    def __init__(self, site: str, weight: Weight = 0.25) -> None:
        super().__init__(site)
        self.weight = check_weight("weight", weight, least=0)

    def cost(self, joint: InferenceJoint, step: int | Tensor) -> Tensor:
        """What is minimized, (num_particles, *sizes)."""
        parts = joint.objectives(self.site)
        if "commitment" not in parts:
            raise ValueError(no_commitment(self.site, drawn_from(joint, self.site)))
        cost = weight_of(self.weight, step) * parts["commitment"]
        return cost + parts["codebook"] if "codebook" in parts else cost

    def weights(self) -> tuple[Weight, ...]:
        return (self.weight,)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.site!r}, {self.weight!r})"


def drawn_from(joint: InferenceJoint, site: str) -> list[str]:
    """The names of the distribution of a site; ValueError for one that there is not."""
    known = (*joint.latent_sites, *joint.structure.observed_sites)
    if site not in known:
        raise ValueError(f"The model has no sample site {[site]}; it has {sorted(known)}.")
    return [joint.distribution_name(site)] if site in joint.latent_sites else ["the model's"]
