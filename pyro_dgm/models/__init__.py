"""Models with their guides, ready to train."""

from pyro_dgm.models.avb import AVB
from pyro_dgm.models.bigan import BiGAN
from pyro_dgm.models.conditional_gan import ConditionalGAN
from pyro_dgm.models.conditional_vae import ConditionalVAE
from pyro_dgm.models.conv_vae import ConvVAE
from pyro_dgm.models.dcgan import DCGAN
from pyro_dgm.models.flow_gan import FlowGAN
from pyro_dgm.models.gan import GAN
from pyro_dgm.models.infogan import InfoGAN
from pyro_dgm.models.vae import VAE

__all__ = ["AVB", "DCGAN", "GAN", "VAE", "BiGAN", "ConditionalGAN", "ConditionalVAE", "ConvVAE", "FlowGAN", "InfoGAN"]
