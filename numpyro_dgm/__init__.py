"""Deep generative models as ordinary model/guide pairs.

Models and their guides (`models`), the conditional distributions that they are made of (`priors`, `likelihoods`, `flows`), training objectives (`losses`), the
training loop (`fit`), and what is asked of a trained model (`evaluation`).
"""

from numpyro_dgm import evaluation, flows, likelihoods, losses, models, nn, priors, training
from numpyro_dgm.evaluation import generate, latents, log_weights, reconstruct, to_arviz
from numpyro_dgm.losses import ELBO, IWAE, NLL, Reconstruction
from numpyro_dgm.models import DCGAN, GAN, VAE, ConditionalGAN, ConditionalVAE, ConvVAE
from numpyro_dgm.training import Adam, NonFiniteError, Run, binarize, fit

__all__ = [
    "DCGAN",
    "ELBO",
    "GAN",
    "IWAE",
    "NLL",
    "VAE",
    "Adam",
    "ConditionalGAN",
    "ConditionalVAE",
    "ConvVAE",
    "NonFiniteError",
    "Reconstruction",
    "Run",
    "binarize",
    "evaluation",
    "fit",
    "flows",
    "generate",
    "latents",
    "likelihoods",
    "log_weights",
    "losses",
    "models",
    "nn",
    "priors",
    "reconstruct",
    "to_arviz",
    "training",
]
