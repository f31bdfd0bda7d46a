"""Deep generative models as ordinary model/guide pairs."""

from pyro_dgm import likelihoods, models, nn, priors
from pyro_dgm.models import VAE

__all__ = ["VAE", "likelihoods", "models", "nn", "priors"]
