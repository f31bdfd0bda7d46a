"""Reweighted wake-sleep: the model follows its importance-weighted bound, the guide the inclusive
divergence KL(p(z | x), q(z | x)).
"""

from collections.abc import Mapping
from math import prod

from torch import Tensor

from dgm_core.arguments import check_choice, check_count, check_flag_or_none
from dgm_core.terms import check_places, written
from pyro_dgm.joints.inference import InferenceJoint
from pyro_dgm.joints.joints import Joints
from pyro_dgm.joints.on_draws import guide_score
from pyro_dgm.losses.base import Term
from pyro_dgm.losses.bounds.iwae import bound_per_datum, check_subsampling, weights_of
from pyro_dgm.losses.formulas import attach_gradient, iwae_bound, normalized_weights

__all__ = ["WakeSleep"]


class WakeSleep(Term):
    """Reweighted wake-sleep, in nats per datum, with normalized importance weights r_k:

    the model follows sum_k r_k d log p(x, z_k), the gradient of the IWAE bound; the guide
    sum_k r_k d log q(z_k | x) ("wake", the gradient of -KL(p(z | x), q) at the data), or
    d log q(z | x) at draws (x, z) of the model ("sleep", the same on average over the model's own
    data), or half of each.

    No gradient passes through draws: discrete latents need nothing else.  The guide covers the
    posterior, since it is the one that is expected over.

    Args:
        num_particles: K; the gradients of the wake phases are biased, by some 1 / K.
        guide: "wake", "sleep" or "both".
        arguments: for the sleep phase, {observed site: position or name of the argument that it
            observes}; found where the model passes arguments to obs= as they are.
        vectorize: as in ELBO.

    Logged:
        "WakeSleep", the IWAE bound, and "WakeSleep/log_q", what the guide maximizes.

    Cost:
        K draws of guide and model; the sleep phase runs each once more.

    Raises:
        ValueError: for bad arguments; for guides whose values follow from draws beyond the model's,
            as those of JointGuide, which cannot be scored at values that are held; for subsampled
            global latents, and for the sleep phase with any global latents.

    References:
        Bornschein and Bengio (2015), arXiv:1406.2751; Le et al. (2019), arXiv:1805.10469.

    Example:
        >>> WakeSleep(num_particles=20, guide="both")
        WakeSleep(num_particles=20, guide='both')
    """

    name = "WakeSleep"
    details = ("log_q",)
    sign = -1

    def __init__(
        self,
        num_particles: int = 10,
        guide: str = "wake",
        arguments: Mapping[str, int | str] | None = None,
        vectorize: bool | None = None,
    ) -> None:
        super().__init__()
        self.num_particles = check_count("num_particles", num_particles)
        self.guide = check_choice("guide", guide, ("wake", "sleep", "both"))
        self.arguments = check_places(arguments)
        if self.arguments and guide == "wake":
            raise ValueError(
                "arguments say where the sleep phase puts what it has drawn, and guide='wake' has "
                "none: leave them out, or use guide='sleep' or 'both'."
            )
        self.vectorize = check_flag_or_none("vectorize", vectorize)

    def estimate(self, joints: Joints, step: int | Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        joint = joints.inference(stopped=True)
        check_subsampling(joint)
        whole = self._checked(joint)
        log_w = weights_of(joint, whole)
        weights = normalized_weights(log_w)
        log_p, log_q = sides(joint, whole)
        bound, model, guide = (
            bound_per_datum(joint, x, whole)
            for x in (iwae_bound(log_w), (weights * log_p).sum(0), (weights * log_q).sum(0))
        )
        if self.guide != "wake":
            asleep = self._asleep(joints, joint)
            guide = asleep if self.guide == "sleep" else (guide + asleep) / 2
        return attach_gradient(bound, model + guide), {"log_q": guide.detach()}

    def _checked(self, joint: InferenceJoint) -> bool:
        """Whether the weights are those of the whole data."""
        if determined := [name for name in joint.latent_sites if joint.is_determined(name)]:
            raise ValueError(
                f"WakeSleep scores the guide at values that are held, but its values of "
                f"{sorted(determined)} follow from other draws: take a guide that draws each site "
                "from its own distribution."
            )
        if joint.structure.factorizes:
            return False
        if joint.data_scale != 1:
            raise ValueError(
                f"WakeSleep weights the draws of {list(joint.structure.global_sites)}, which lie "
                "outside the data plates, by all data, but a part is present: use ELBO, or give "
                "the plates all their data."
            )
        return True

    def _asleep(self, joints: Joints, joint: InferenceJoint) -> Tensor:
        """log q(z | x) per datum at a draw (x, z) of the model."""
        if not joint.structure.factorizes:
            raise ValueError(
                f"The sleep phase draws data and latents datum by datum, but "
                f"{list(joint.structure.global_sites)} lie outside the data plates: use "
                "guide='wake'."
            )
        return guide_score(joints, joint.latent_sites, self.arguments) / prod(joint.sizes)

    def __repr__(self) -> str:
        return written(self, num_particles=10, guide="wake", arguments={}, vectorize=None)


def sides(joint: InferenceJoint, whole: bool) -> tuple[Tensor, Tensor]:
    """log p(x, z) and log q(z | x), as the weights are shaped."""
    log_p, log_q = joint.log_likelihood + joint.log_prior, joint.log_posterior
    if not whole:
        return log_p, log_q
    shared = joint.global_log_likelihood + joint.global_log_prior, joint.global_log_posterior
    log_p, log_q = (
        local.reshape(local.shape[0], -1).sum(1) + other.reshape(-1)
        for local, other in zip((log_p, log_q), shared, strict=True)
    )
    return log_p, log_q
