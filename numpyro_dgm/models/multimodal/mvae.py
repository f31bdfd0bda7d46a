"""Multimodal VAE:  q(z | x) ~ p(z) prod_m N(z; mu_m(x_m), s_m(x_m)^2), the product over the
modalities that are there, in which the prior counts once.
"""

from numpyro_dgm.models.multimodal.base import Multimodal

__all__ = ["MVAE"]


class MVAE(Multimodal):
    """A VAE of several modalities whose guide is a product of experts (Wu & Goodman 2018).

    An expert stands for what its modality says beyond the prior, posterior over prior: with exact
    experts any subset of the modalities has the exact posterior. Trained by `ELBO()` alone the
    single experts are seldom alone in the product; `losses.sub_sampled(names)`, the bound of all
    modalities and of each by itself, trains them for that.

    Args and Shapes: as `Multimodal`.

    Cost:
        an encoder, an expert and a decoder of each modality.

    Raises:
        ValueError: if a size, a part, the data or the mask do not fit.

    References:
        Wu & Goodman (2018), arXiv:1802.05335.

    Example:
        >>> from numpyro_dgm.conditionals import Labels
        >>> import jax, numpyro
        >>> mvae = MVAE({"image": 64, "label": Labels(10)}, 2, hidden=(20,), key=jax.random.key(0))
        >>> with numpyro.handlers.seed(rng_seed=0):
        ...     mvae.model(size=5)["label"].shape
        (5, 1)
    """
