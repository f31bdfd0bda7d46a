"""Models with their guides, ready to train."""

from numpyro_dgm.models.avb import AVB
from numpyro_dgm.models.bigan import BiGAN
from numpyro_dgm.models.conditional_gan import ConditionalGAN
from numpyro_dgm.models.conditional_vae import ConditionalVAE
from numpyro_dgm.models.conv_vae import ConvVAE
from numpyro_dgm.models.dcgan import DCGAN
from numpyro_dgm.models.flow_gan import FlowGAN
from numpyro_dgm.models.gan import GAN
from numpyro_dgm.models.infogan import InfoGAN
from numpyro_dgm.models.vae import VAE

__all__ = ["AVB", "DCGAN", "GAN", "VAE", "BiGAN", "ConditionalGAN", "ConditionalVAE", "ConvVAE", "FlowGAN", "InfoGAN"]
