"""Models with their guides, ready to train."""

from pyro_dgm.models.vae import VAE

__all__ = ["VAE"]
