"""Terms that read the observed sites only: maximum likelihood of models without latent sites, and
reconstruction under the guide.
"""

import jax.numpy as jnp
from jax import Array
from jax.scipy.special import logsumexp

from dgm_core.arguments import check_count, check_flag_or_none, check_name
from dgm_core.enumeration import no_labels, parts_of_observation
from dgm_core.terms import not_observed, nothing_observed, written
from numpyro_dgm.joints.by_value import by_guided
from numpyro_dgm.joints.inference import InferenceJoint
from numpyro_dgm.joints.joints import Joints
from numpyro_dgm.losses.base import Term
from numpyro_dgm.losses.bounds.elbo import score_surrogate
from numpyro_dgm.losses.formulas import attach_gradient

__all__ = ["NLL", "ConditionalNLL", "Reconstruction"]


class NLL(Term):
    """The negative log-likelihood -log p(x), in nats per datum, of a model without latent sites (a
    flow, a regression); or of a guide that classifies, -log q(y | x) at the labels that are known.

    Without a site the guide draws nothing: `lambda *args, **kwargs: None` will do.

    With a site, of a model that observes it by `obs_mask` and a guide that draws the rest, "y" and
    "y_unobserved": data without a label count zero, and the mean is over all of them, so that it is
    right on average in batches of any composition. A weight alpha for each *labeled* datum is then
    alpha; the mean over these, as in Kingma et al. (2014), has 1 / (share of the labels).

    Args:
        site: the discrete site whose observed values the guide scores; None: the whole model.

    Logged:
        "NLL", with a site "NLL(y)".

    Cost:
        one run of the model; with a site one of guide and model with its values enumerated, which
        is that of ELBO(enumerate=site) beside it.

    Raises:
        ValueError: when the model has latent sites, whose likelihood is an integral: use ELBO or
            IWAE; when it observes nothing; and for a site that is not observed in part.

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

    def __init__(self, site: str | None = None) -> None:
        super().__init__()
        self.site = site
        if site is not None:
            self.name, self.enumerate = f"NLL({site})", (check_name("site", site),)

    def estimate(self, joints: Joints, step: int | Array) -> tuple[Array, dict[str, Array]]:
        if self.site is not None:
            joint = joints.inference(enumerate=self.enumerate)
            return -joint.per_datum(label_score(joint, self.site)).mean(), {}
        joint = joints.inference()
        if joint.latent_sites:
            raise ValueError(
                "NLL needs a model whose sample sites are all observed, but "
                f"{sorted(joint.latent_sites)} are latent: their likelihood is an integral, "
                "which ELBO and IWAE bound."
            )
        of = joint.structure
        if not (of.observed_sites or of.local_factors or of.global_factors):
            raise ValueError(nothing_observed(self.name))
        return -joint.fits().mean(), {}

    def __repr__(self) -> str:
        return "NLL()" if self.site is None else f"NLL({self.site!r})"


class ConditionalNLL(Term):
    """-E_q [log p(y | what comes before it)], in nats per datum, of one observed site of the model:
    the labels of a joint energy model, one of several outputs.

    Args:
        site: observed by the model.
        num_particles, vectorize: as in Reconstruction.

    Logged:
        "ConditionalNLL(<site>)".

    Cost:
        one run of guide and model.  Sites that are not reparameterized take the score function, as
        in ELBO.

    Raises:
        ValueError: for a site that the model does not observe.

    Example:
        >>> ConditionalNLL("y")
        ConditionalNLL('y')
    """

    guided = False

    def __init__(self, site: str, num_particles: int = 1, vectorize: bool | None = None) -> None:
        super().__init__()
        self.site = check_name("site", site)
        self.sites = (self.site,)
        self.num_particles = check_count("num_particles", num_particles)
        self.vectorize = check_flag_or_none("vectorize", vectorize)

    @property
    def name(self) -> str:  # type: ignore[override]
        """The class and the site."""
        return f"{type(self).__name__}({self.site})"

    def estimate(self, joints: Joints, step: int | Array) -> tuple[Array, dict[str, Array]]:
        joint = joints.inference()
        if self.site not in joint.structure.observed_sites:
            raise ValueError(not_observed(self.site, joint.structure.observed_sites))
        local = joint.log_likelihood_of(self.site)
        fit = joint.per_datum(joint.expected(local))
        surrogate = fit + score_surrogate(joint, local, fit, every_site=False)
        return -attach_gradient(fit.mean(), surrogate.mean()), {}

    def __repr__(self) -> str:
        return written(self, repr(self.site), num_particles=1, vectorize=None)


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


def label_score(joint: InferenceJoint, site: str) -> Array:
    """log q of the observed values of a site of which the rest is enumerated, zero where it is not
    observed: (1, *sizes) or (num_particles, *sizes).
    """
    observed, drawn = parts_of_observation(site)
    enumeration = joint.enumeration
    unknown = observed not in joint.structure.observed_sites
    if enumeration is None or drawn not in dict(enumeration.guided) or unknown:
        raise ValueError(no_labels(site, joint.latent_sites, joint.structure.observed_sites))
    labeled = ~joint.counts(drawn)[:1]
    same = joint.entries(drawn)[..., 0] == joint.entries(observed)[:1, ..., 0]
    log_q = jnp.where(same | ~labeled, joint.score(drawn), -jnp.inf)
    return jnp.where(labeled, logsumexp(by_guided(log_q, enumeration), 0), 0.0)
