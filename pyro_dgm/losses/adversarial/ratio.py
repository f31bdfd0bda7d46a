"""The evidence lower bound of guides, priors and likelihoods without a density: what cannot be
scored is replaced by a critic's log-ratio.
"""

from math import log, pi
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from dgm_core.arguments import check_choice, check_count
from pyro_dgm.joints.inference import InferenceJoint
from pyro_dgm.joints.joints import Joints
from pyro_dgm.losses.adversarial.regularizers import Regularizer
from pyro_dgm.losses.adversarial.term import AdversarialTerm

__all__ = ["RatioELBO"]


class RatioELBO(AdversarialTerm):
    """E_q [log p(x | z) - T(x, z)] with a critic T that learns log q(z | x) - log p(z): adversarial
    variational Bayes. The guide needs no density.

    The critic tells draws of the guide from others by logistic regression, so that at its best it
    is the log-ratio of their densities.

    Args:
        critic: from the observed values and the latents, flattened side by side, to one number; of
            global latents from these alone.
        contrast: what the guide's draws are told from.
            "prior": draws of the model's prior; prior and guide may both be implicit;
            "adaptive": a normal distribution r(z | x) with the mean and the standard deviation of
                the guide's particles for each datum, in unconstrained space; the bound is E_q [log
                p(x, z) - log r(z | x) - T], whose ratio is small and easily learned; needs two or
                more particles, and a prior that can be scored;
            "joint": draws (x, z) of the model: the bound is E_q [-T(x, z)], less the entropy of the
                data, for a model that can only be simulated; it trains the guide alone. Latents
                outside the data plates need a new set of data at each step: a single one is told
                from simulated ones whatever they are.
        num_particles: draws of the guide per datum.
        optim, critic_steps, regularizer: of the critic, as in AdversarialTerm.

    Logged:
        "RatioELBO", and "RatioELBO/log_likelihood" (zero for "joint"), "/KL", "/real", "/fake". An
        estimate: a bad critic makes it no bound.

    Cost:
        one run of guide and model, one more of the model for the other draws, and the critic's as
        in AdversarialTerm.

    Raises:
        ValueError: for bad arguments, latents partly inside and partly outside the data plates, and
            "adaptive" with one particle.

    References:
        Mescheder, Nowozin and Geiger (2017), arXiv:1701.04722; Huszar (2017), arXiv:1702.08235;
        Tran, Ranganath and Blei (2017), arXiv:1702.08896.

    Example:
        >>> RatioELBO(contrast="adaptive", num_particles=8)
        RatioELBO(contrast='adaptive', num_particles=8)
    """

    details = ("log_likelihood", "KL", "real", "fake")
    sign = -1
    guided = True

    def __init__(
        self,
        critic: nn.Module | None = None,
        *,
        contrast: str = "prior",
        num_particles: int = 1,
        optim: Any = None,
        critic_steps: int = 1,
        regularizer: Regularizer | None = None,
    ) -> None:
        super().__init__(
            ("latent sites",),
            critic,
            optim=optim,
            critic_steps=critic_steps,
            regularizer=regularizer,
        )
        self.contrast = check_choice("contrast", contrast, ("prior", "adaptive", "joint"))
        self.num_particles = check_count("num_particles", num_particles)
        if contrast == "adaptive" and num_particles < 2:
            raise ValueError(
                'contrast="adaptive" takes the moments of the guide\'s particles: '
                "num_particles "
                f"must be at least 2, got {num_particles}."
            )

    @property
    def name(self) -> str:  # type: ignore[override]
        """The name of the class: the sites are all there are."""
        return "RatioELBO"

    def bound(self, real: Tensor, fake: Tensor) -> Tensor:
        """E_q [log sigmoid(T)] + E_other [log sigmoid(-T)], which the critic maximizes."""
        return logsigmoid(real).mean() + logsigmoid(-fake).mean()

    def samples(self, joints: Joints) -> tuple[Tensor, Tensor]:
        """Draws of the guide and of what they are told from, each beside the data they belong to,
        (num, entries).
        """
        joint = joints.inference()
        latents, is_local = _latent_sites(joint)
        observed = (
            [joint.entries(name) for name in joint.structure.observed_sites] if is_local else []
        )
        if self.contrast == "adaptive":
            real = _standardized(torch.cat([joint.unconstrained(name)[0] for name in latents], -1))[
                0
            ]
            fake = torch.randn_like(real)
        else:
            real = torch.cat([joint.entries(name) for name in latents], -1)
            drawn = joints.prior(
                (*latents, *(joint.structure.observed_sites if self.contrast == "joint" else ()))
            )
            fake = torch.cat([drawn[name] for name in latents], -1)
        other = observed
        if self.contrast == "joint":
            other = [drawn[name] for name in joint.structure.observed_sites]
            observed = [joint.entries(name) for name in joint.structure.observed_sites]
            if not is_local:  # the data of a global latent are all data
                observed, other = (
                    [part.flatten(1) for part in parts] for parts in (observed, other)
                )
        return _beside(observed, real), _beside(other, fake)

    def estimate(self, joints: Joints, step: int | Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        real, fake = self.scores(joints)
        joint = joints.inference()
        latents, is_local = _latent_sites(joint)
        log_ratio = real.reshape(
            -1, *(joint.sizes if is_local else [1] * len(joint.sizes))
        )  # T at the guide's draws
        if self.contrast == "adaptive":
            unconstrained = [joint.unconstrained(name) for name in latents]
            log_r = _standardized(torch.cat([u for u, _ in unconstrained], -1))[1].reshape(
                log_ratio.shape
            )
            log_p = (joint.log_prior if is_local else joint.global_log_prior) + sum(
                log_jacobian for _, log_jacobian in unconstrained
            )
            log_ratio = log_ratio + log_r - log_p
        fit = joint.log_likelihood if self.contrast != "joint" else torch.zeros_like(log_ratio)
        bound = joint.per_datum(fit - log_ratio) if is_local else joint.per_datum(fit, -log_ratio)
        kl = joint.per_datum(log_ratio) if is_local else joint.per_datum(log_ratio * 0.0, log_ratio)
        details = {
            "log_likelihood": joint.per_datum(fit).mean(),
            "KL": kl.mean(),
            "real": real.mean(),
            "fake": fake.mean(),
        }
        return bound.mean(), details

    def _given(self) -> tuple[str, ...]:
        return ()

    def _shown(self) -> dict[str, Any]:
        return {"contrast": "prior", "num_particles": 1, **super()._shown()}


def _latent_sites(joint: InferenceJoint) -> tuple[tuple[str, ...], bool]:
    """The latent sites of the model, and whether they are local."""
    structure = joint.structure
    if not joint.latent_sites or (structure.local_sites and structure.global_sites):
        raise ValueError(
            "RatioELBO needs latent sites that lie all inside the data plates or all outside, got "
            f"{list(structure.local_sites)} inside and {list(structure.global_sites)} outside."
        )
    return tuple(joint.site_orders()[1]), bool(structure.local_sites)


def _standardized(u: Tensor) -> tuple[Tensor, Tensor]:
    """(u - m) / s, and log Normal(u; m, s^2), with the moments m and s over the particles as
    constants: (num_particles, ..., entries) -> same, (...).
    """
    fixed = u.detach()
    mean, scale = fixed.mean(0), fixed.std(0).clamp(min=1e-6)
    standard = (u - mean) / scale
    return standard, -(standard.square() / 2 + scale.log() + log(2 * pi) / 2).sum(-1)


def _beside(observed: list[Tensor], latent: Tensor) -> Tensor:
    """Data and latents side by side, the data repeated for each particle: (num, entries)."""
    parts = [part.expand(*latent.shape[:-1], part.shape[-1]) for part in observed] + [latent]
    return torch.cat([part.to(latent.dtype) for part in parts], -1).flatten(0, -2)
