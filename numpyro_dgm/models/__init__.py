"""Models with their guides, ready to train."""

from numpyro_dgm.models.vae import VAE

__all__ = ["VAE"]
