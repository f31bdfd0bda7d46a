"""Terms that read the observed sites only: maximum likelihood of models without latent sites, and
reconstruction under the guide.
"""

from jax import Array

from dgm_core.arguments import check_count, check_flag_or_none
from dgm_core.terms import written
from numpyro_dgm.joints.joints import Joints
from numpyro_dgm.losses.base import Term
from numpyro_dgm.losses.bounds.elbo import score_surrogate
from numpyro_dgm.losses.formulas import attach_gradient

__all__ = ["NLL", "Reconstruction"]


class NLL(Term):
    """The negative log-likelihood -log p(x), in nats per datum, of a model without latent sites (a
    flow, a regression).

    The guide draws nothing: `lambda *args, **kwargs: None` will do.

    Logged:
        "NLL".

    Cost:
        one run of the model.

    Raises:
        ValueError: when the model has latent sites, whose likelihood is an integral: use ELBO or
            IWAE.

    Example:
        >>> from numpyro_dgm.nn import register
        >>> from numpyro_dgm.conditionals.normal import DiagonalNormal
        >>> density = DiagonalNormal(2, key=jax.random.key(0))
        >>> def model(x):
        ...     with numpyro.plate("data", len(x)):
        ...         numpyro.sample("x", register("density", density)(), obs=x)
        >>> bool(NLL().loss(jax.random.key(1), {}, model, lambda x: None, jnp.zeros((5, 2))) > 0)
        True
    """

    name = "NLL"

    def estimate(self, joints: Joints, step: int | Array) -> tuple[Array, dict[str, Array]]:
        joint = joints.inference()
        if joint.latent_sites:
            raise ValueError(
                "NLL needs a model whose sample sites are all observed, but "
                f"{sorted(joint.latent_sites)} are latent: their likelihood is an integral, "
                "which ELBO and IWAE bound."
            )
        return -joint.fits().mean(), {}


class Reconstruction(Term):
    """The expected negative log-likelihood under the guide, -E_q(z|x) [log p(x | z)], in nats per
    datum.

    The reconstruction half of the ELBO, to be added to a divergence between q(z) and p(z)
    (adversarial and Wasserstein autoencoders).

    Args:
        num_particles: draws of the guide per datum, averaged.
        vectorize: as in ELBO.

    Logged:
        "Reconstruction".

    Cost:
        one run of guide and model.  Sites that are not reparameterized take the score function, as
        in ELBO.

    Example:
        >>> from numpyro_dgm import VAE
        >>> vae = VAE(4, 2, hidden=(8,), key=jax.random.key(0))
        >>> x = jnp.ones((3, 4))
        >>> bool(Reconstruction().loss(jax.random.key(1), {}, vae.model, vae.guide, x) > 0)
        True
    """

    name = "Reconstruction"

    def __init__(self, num_particles: int = 1, vectorize: bool | None = None) -> None:
        super().__init__()
        self.vectorize = check_flag_or_none("vectorize", vectorize)
        self.num_particles = check_count("num_particles", num_particles)

    def estimate(self, joints: Joints, step: int | Array) -> tuple[Array, dict[str, Array]]:
        joint = joints.inference()
        fit = joint.fits()
        surrogate = fit + score_surrogate(joint, joint.log_likelihood, fit, every_site=False)
        return -attach_gradient(fit.mean(), surrogate.mean()), {}

    def __repr__(self) -> str:
        return written(self, num_particles=1, vectorize=None)
