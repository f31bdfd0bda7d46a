"""Models with their guides, ready to train."""

from pyro_dgm.models.conditional_gan import ConditionalGAN
from pyro_dgm.models.conditional_vae import ConditionalVAE
from pyro_dgm.models.conv_vae import ConvVAE
from pyro_dgm.models.dcgan import DCGAN
from pyro_dgm.models.gan import GAN
from pyro_dgm.models.vae import VAE

__all__ = ["DCGAN", "GAN", "VAE", "ConditionalGAN", "ConditionalVAE", "ConvVAE"]
