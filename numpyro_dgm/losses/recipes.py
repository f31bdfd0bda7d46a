"""Published objectives as sums of terms, in the parameters of their papers: each function returns a
loss for any model and guide with sites z and x.

(The beta-VAE needs no function: it is ELBO(beta=4.0).)
"""

from dgm_core.arguments import check_instance, check_number
from dgm_core.modalities import check_given, check_sets
from numpyro_dgm.losses.adversarial.fgan import JensenShannon
from numpyro_dgm.losses.adversarial.total_correlation import TotalCorrelation
from numpyro_dgm.losses.base import Loss
from numpyro_dgm.losses.bounds.elbo import ELBO
from numpyro_dgm.losses.bounds.likelihood import Reconstruction
from numpyro_dgm.losses.constraints import KL
from numpyro_dgm.losses.samples.kernels import IMQ
from numpyro_dgm.losses.samples.terms import MMD

__all__ = ["aae", "factor_vae", "info_vae", "jmvae", "sub_sampled", "vae_gan", "wae"]


def info_vae(alpha: float, lambda_: float, divergence: Loss | None = None) -> Loss:
    """The InfoVAE:  -E_q [log p(x | z)] + (1 - alpha) KL(q(z | x), p(z)) + (alpha + lambda - 1)
    D(q(z), p(z)).

    Up to a constant it is KL(q(x, z), p(x, z)) with lambda as the weight of KL(q(z), p(z)) in it,
    less alpha times the mutual information of x and z under q: alpha = 0, lambda = 1 is the VAE,
    alpha = 1 - beta, lambda = beta the beta-VAE, alpha = lambda = 1 with D = JensenShannon("z") the
    adversarial autoencoder.

    Args:
        alpha: at most 1.
        lambda_: at least 1 - alpha.
        divergence: the term D (default MMD("z")).

    Raises:
        ValueError: for weights out of range, and a divergence that is no loss.

    References:
        Zhao, Song and Ermon (2019), arXiv:1706.02262, eq. (6).

    Example:
        >>> info_vae(0.5, 10.0)
        ELBO(beta=0.5) + 9.5 * MMD('z')
        >>> info_vae(0.0, 1.0)
        ELBO()
    """
    alpha = check_number("alpha", alpha, most=1)
    lambda_ = check_number("lambda_", lambda_, least=1 - alpha)
    weight = round(alpha + lambda_ - 1, 12)  # of binary fractions: 0.3 + 1.7 - 1 is one
    likelihood: Loss = (
        Reconstruction() if alpha == 1 else ELBO(beta=round(1 - alpha, 12))
    )  # without the KL part a guide needs no density
    return likelihood + weight * _given(divergence, MMD("z")) if weight > 0 else likelihood


def aae(weight: float = 1.0, divergence: Loss | None = None) -> Loss:
    """The adversarial autoencoder:  -E_q [log p(x | z)] + weight D(q(z), p(z)); the guide may be a
    network without a density.

    Where labels y are a site of the model, JensenShannon(("z", "y")) as the divergence gives each
    class its own part of the prior.

    Args:
        weight: of the divergence.
        divergence: the term D (default JensenShannon("z")).

    Raises:
        ValueError: for a weight that is not positive, and a divergence that is no loss.

    References:
        Makhzani et al. (2016), arXiv:1511.05644, section 2.

    Example:
        >>> aae()
        Reconstruction() + JensenShannon('z')
    """
    weight = check_number("weight", weight, above=0)
    return Reconstruction() + weight * _given(divergence, JensenShannon("z"))


def wae(weight: float = 10.0, divergence: Loss | None = None) -> Loss:
    """The Wasserstein autoencoder:  E_q [c(x, decoder(z))] + weight D(q(z), p(z)).

    The cost c is -log p(x | z), the squared error over 2 scale^2 plus a constant for the likelihood
    Normal(x_dim, scale=scale).

    Args:
        weight: lambda of the paper.
        divergence: the term D (default MMD("z", IMQ()), the WAE-MMD; JensenShannon("z") gives the
            WAE-GAN).

    Raises:
        ValueError: for a weight that is not positive, and a divergence that is no loss.

    References:
        Tolstikhin et al. (2018), arXiv:1711.01558, eq. (4).

    Example:
        >>> wae()
        Reconstruction() + 10.0 * MMD('z', IMQ((1.0,)))
    """
    weight = check_number("weight", weight, above=0)
    return Reconstruction() + weight * _given(divergence, MMD("z", IMQ()))


def sub_sampled(names: str | tuple[str | tuple[str, ...], ...]) -> Loss:
    """The objective of the MVAE:  the bound on log p of all modalities, and of each by itself, or
    of several together.

    Where data lack modalities by themselves, ELBO() does as much. So it does with other sets of
    them in each step, if a `transform` of `fit` draws `has`.

    Args:
        names: of the modalities that are also taken by themselves; a tuple of names is a set that
            is taken together.

    Raises:
        ValueError: for what are no names.

    References:
        Wu and Goodman (2018), arXiv:1802.05335, eq. (5).

    Example:
        >>> sub_sampled(("image", "label"))
        ELBO() + ELBO(given=('image',)) + ELBO(given=('label',))
        >>> sub_sampled(("row", ("image", "label")))
        ELBO() + ELBO(given=('row',)) + ELBO(given=('image', 'label'))
    """
    return sum((ELBO(given=given) for given in check_sets(names)), ELBO())


def jmvae(names: str | tuple[str, ...], alpha: float = 0.1) -> Loss:
    """JMVAE-kl:  the bound on log p of all modalities, and alpha times the KL from the guide to
    itself given each modality alone.

    Args:
        names: of the modalities.
        alpha: of the KL parts, which are in closed form where one is known.

    Raises:
        ValueError: for a weight that is not positive, and for what are no names.

    References:
        Suzuki, Nakayama and Matsuo (2016), arXiv:1611.01891.

    Example:
        >>> jmvae(("image",), 0.5)
        ELBO() + 0.5 * KL(analytic_kl=True, given=('image',))
    """
    alpha = check_number("alpha", alpha, above=0)
    terms = (alpha * KL(analytic_kl=True, given=name) for name in check_given(names))
    return sum(terms, ELBO())


def vae_gan(weight: float = 1.0, divergence: Loss | None = None) -> Loss:
    """A VAE whose model also answers to a critic:  -ELBO + weight D(p_data(x), p(x)).

    (The paper also measures the reconstruction by a layer of the critic; here it is measured by the
    likelihood.) x must be reparameterized.

    Args:
        weight: of the divergence.
        divergence: the term D (default JensenShannon("x")).

    Raises:
        ValueError: for a weight that is not positive, and a divergence that is no loss.

    References:
        Larsen et al. (2016), arXiv:1512.09300.

    Example:
        >>> vae_gan(0.1)
        ELBO() + 0.1 * JensenShannon('x')
    """
    weight = check_number("weight", weight, above=0)
    return ELBO() + weight * _given(divergence, JensenShannon("x"))


def factor_vae(gamma: float = 10.0) -> Loss:
    """A VAE with independent latents:  -ELBO + gamma TC(z), with the total correlation of q(z).

    Args:
        gamma: positive.

    Raises:
        ValueError: for a weight that is not positive.

    References:
        Kim and Mnih (2018), arXiv:1802.05983, eq. (2).

    Example:
        >>> factor_vae(6.4)
        ELBO() + 6.4 * TotalCorrelation('z')
    """
    gamma = check_number("gamma", gamma, above=0)
    return ELBO() + gamma * TotalCorrelation("z")


def _given(divergence: Loss | None, default: Loss) -> Loss:
    if divergence is not None:
        check_instance("divergence", divergence, Loss, 'a term such as MMD("z")')
    return default if divergence is None else divergence
