"""Deep generative models as ordinary model/guide pairs.

Models and their guides (`models`), the conditional distributions that they are made of (`priors`, `likelihoods`), and training objectives (`losses`).
"""

from numpyro_dgm import likelihoods, losses, models, nn, priors
from numpyro_dgm.losses import ELBO, IWAE, NLL, Reconstruction
from numpyro_dgm.models import VAE, ConditionalVAE, ConvVAE

__all__ = [
    "ELBO",
    "IWAE",
    "NLL",
    "VAE",
    "ConditionalVAE",
    "ConvVAE",
    "Reconstruction",
    "likelihoods",
    "losses",
    "models",
    "nn",
    "priors",
]
