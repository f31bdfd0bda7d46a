"""Deep generative models as ordinary model/guide pairs."""

from numpyro_dgm import likelihoods, models, nn, priors
from numpyro_dgm.models import VAE

__all__ = ["VAE", "likelihoods", "models", "nn", "priors"]
