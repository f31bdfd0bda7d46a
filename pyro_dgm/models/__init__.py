"""Models with their guides, ready to train."""

from pyro_dgm.models.conditional_vae import ConditionalVAE
from pyro_dgm.models.conv_vae import ConvVAE
from pyro_dgm.models.vae import VAE

__all__ = ["VAE", "ConditionalVAE", "ConvVAE"]
