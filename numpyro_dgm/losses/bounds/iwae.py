"""The importance-weighted bound with its gradient estimators.

L_K = E log 1/K sum_k w_k, w_k = p(x, z_k) / q(z_k | x): at least the ELBO, not decreasing in K,
tends to log p(x).
"""

import jax
from jax import Array

from dgm_core.arguments import check_choice, check_count, check_flag_or_none
from dgm_core.terms import written
from numpyro_dgm.joints.inference import InferenceJoint
from numpyro_dgm.joints.joints import Joints
from numpyro_dgm.losses.base import Term
from numpyro_dgm.losses.formulas import (
    attach_gradient,
    iwae_bound,
    normalized_weights,
    vimco_signal,
)

__all__ = ["IWAE"]


class IWAE(Term):
    """The importance-weighted bound log 1/K sum_k p(x, z_k) / q(z_k | x), in nats per datum.

    The logarithm is taken datum by datum, and the scale N / B of a subsampled plate stays outside
    it, so the bound holds under subsampling.  With global latents the weights are those of the
    whole joint; under subsampling, where those do not exist, global latents are drawn once for all
    particles and enter as in the ELBO.

    Args:
        num_particles: K.
        estimator: of the gradient with respect to the guide.
            "reparam": through the sampled values; sites that are not reparameterized take the score
            function with the VIMCO baseline; "dreg": doubly reparameterized, whose signal-to-noise
            ratio does not fall with K; every site must be reparameterized.
        vectorize: as in ELBO.

    Logged:
        "IWAE".

    Cost:
        K draws of guide and model in one vectorized pass; "dreg" adds one more pass of each.

    Raises:
        ValueError: for bad arguments, for "dreg" with a site that is not reparameterized, and when
            a plate is subsampled that is not a data plate.

    References:
        Burda, Grosse and Salakhutdinov (2016), arXiv:1509.00519; Tucker et al. (2019),
        arXiv:1810.04152; Mnih and Rezende (2016), arXiv:1602.06725.

    Example:
        >>> from numpyro_dgm import VAE
        >>> vae = VAE(4, 2, hidden=(8,), key=jax.random.key(0))
        >>> loss = IWAE(num_particles=16, estimator="dreg")
        >>> svi = numpyro.infer.SVI(vae.model, vae.guide, optax.adam(1e-3), loss)
        >>> state = svi.init(jax.random.key(1), jnp.ones((3, 4)))
        >>> state, loss = jax.jit(svi.update)(state, jnp.ones((3, 4)))
        >>> bool(loss > 0)
        True
    """

    name = "IWAE"
    sign = -1
    shares_globals = True

    def __init__(
        self, num_particles: int = 10, estimator: str = "reparam", vectorize: bool | None = None
    ) -> None:
        super().__init__()
        self.vectorize = check_flag_or_none("vectorize", vectorize)
        self.num_particles = check_count("num_particles", num_particles)
        self.estimator = check_choice("estimator", estimator, ("reparam", "dreg"))

    def estimate(self, joints: Joints, step: int | Array) -> tuple[Array, dict[str, Array]]:
        joint = joints.inference()
        _check_subsampling(joint)
        whole = not joint.structure.factorizes and joint.data_scale == 1
        log_w = _log_weights(
            joint, whole
        )  # (num_particles, *sizes), or (num_particles,) of the whole joint
        bound = _per_datum(joint, iwae_bound(log_w), whole)
        if self.estimator == "dreg":
            surrogate = self._doubly_reparameterized(joints, joint, log_w, whole)
        else:
            surrogate = bound + _score_surrogate(joint, log_w, bound, whole)
        return attach_gradient(bound, surrogate), {}

    def _doubly_reparameterized(
        self, joints: Joints, joint: InferenceJoint, log_w: Array, whole: bool
    ) -> Array:
        """sum_k stop(w_k) log w_k at draws whose gradient is scaled by stop(w_k): the model sees
        weights w_k, the guide w_k^2.
        """
        weights = normalized_weights(log_w)
        for name in joint.latent_sites:
            if not joint.is_reparameterized(name):
                raise ValueError(
                    "estimator='dreg' differentiates through every latent site, but site "
                    f"'{name}' ({joint.distribution_name(name)}) is not "
                    "reparameterized: use estimator='reparam', which takes the score function "
                    "there, or a relaxed distribution."
                )
        scored = joints.rescored(
            joint, weights, joint.latent_sites if whole else joint.structure.local_sites
        )
        return _per_datum(scored, (weights * _log_weights(scored, whole)).sum(0), whole)

    def __repr__(self) -> str:
        return written(self, num_particles=10, estimator="reparam", vectorize=None)


def _log_weights(joint: InferenceJoint, whole: bool) -> Array:
    """Per datum, (num_particles, *sizes); or of the whole joint, (num_particles,)."""
    if not whole:
        return joint.log_w
    return joint.log_w.reshape(joint.log_w.shape[0], -1).sum(1) + joint.global_log_w.reshape(-1)


def _per_datum(joint: InferenceJoint, bound: Array, whole: bool) -> Array:
    """The mean over the data of a local bound, plus what the shared global latents add; a bound of
    the whole joint is divided by N.
    """
    return (
        bound / joint.data_size
        if whole
        else joint.per_datum(bound[None], joint.global_log_w).mean()
    )


def _score_surrogate(
    joint: InferenceJoint, log_w: Array, bound: Array, whole: bool
) -> Array | float:
    surrogate: Array | float = 0.0
    for name in joint.latent_sites:
        if joint.is_reparameterized(name):
            continue
        log_q = joint.score(name)
        if whole:
            surrogate = (
                surrogate
                + (log_q.reshape(log_q.shape[0], -1).sum(1) * vimco_signal(log_w)).sum()
                / joint.data_size
            )
        elif name in joint.structure.local_sites:
            surrogate = (
                surrogate + joint.per_datum((log_q * vimco_signal(log_w)).sum(0)[None]).mean()
            )
        else:
            surrogate = surrogate + log_q.sum() * jax.lax.stop_gradient(bound)
    return surrogate


def _check_subsampling(joint: InferenceJoint) -> None:
    for plate, site in joint.other_subsampled():
        raise ValueError(
            "The importance-weighted bound needs every subsampled plate to enclose all observed "
            f"and all local latent sites, but plate '{plate}' "
            f"(at site '{site}') does not, and its scale would sit inside the logarithm: use "
            "ELBO, or give that plate all its data."
        )
