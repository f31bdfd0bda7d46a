"""Models with their guides, ready to train."""

from numpyro_dgm.models.energy.jem import JEM
from numpyro_dgm.models.energy.rbm import RBM
from numpyro_dgm.models.gan.big_gan import BigGAN
from numpyro_dgm.models.gan.bigan import BiGAN
from numpyro_dgm.models.gan.conditional_gan import ConditionalGAN
from numpyro_dgm.models.gan.cycle_gan import CycleGAN
from numpyro_dgm.models.gan.dcgan import DCGAN
from numpyro_dgm.models.gan.flow_gan import FlowGAN
from numpyro_dgm.models.gan.gan import GAN
from numpyro_dgm.models.gan.infogan import InfoGAN
from numpyro_dgm.models.gan.progressive_gan import ProgressiveGAN
from numpyro_dgm.models.gan.sngan import SAGAN, SNGAN
from numpyro_dgm.models.image.image_to_image import ImageToImage
from numpyro_dgm.models.image.masked_autoencoder import MaskedAutoencoder
from numpyro_dgm.models.multimodal.jmvae import JMVAE
from numpyro_dgm.models.multimodal.mixtures import MMVAE, MoPoE
from numpyro_dgm.models.multimodal.mlvae import MLVAE
from numpyro_dgm.models.multimodal.mvae import MVAE
from numpyro_dgm.models.semi_supervised.adgm import ADGM, SDGM
from numpyro_dgm.models.semi_supervised.m1 import M1
from numpyro_dgm.models.semi_supervised.m1m2 import M1M2
from numpyro_dgm.models.semi_supervised.m2 import M2
from numpyro_dgm.models.sequence.dmm import DMM
from numpyro_dgm.models.sequence.rnn import RNN
from numpyro_dgm.models.sequence.srnn import SRNN
from numpyro_dgm.models.sequence.vrnn import VRNN
from numpyro_dgm.models.vae.avb import AVB
from numpyro_dgm.models.vae.conditional_vae import ConditionalVAE
from numpyro_dgm.models.vae.conv_vae import ConvVAE
from numpyro_dgm.models.vae.dlgmm import DLGMM
from numpyro_dgm.models.vae.gmvae import GMVAE
from numpyro_dgm.models.vae.hierarchical import HierarchicalVAE
from numpyro_dgm.models.vae.ladder import LadderVAE
from numpyro_dgm.models.vae.vae import VAE
from numpyro_dgm.models.vae.vq_vae import VQVAE
from numpyro_dgm.models.vae.vq_vae_2 import VQVAE2

__all__ = [
    "ADGM",
    "AVB",
    "DCGAN",
    "DLGMM",
    "DMM",
    "GAN",
    "GMVAE",
    "JEM",
    "JMVAE",
    "M1",
    "M1M2",
    "M2",
    "MLVAE",
    "MMVAE",
    "MVAE",
    "RBM",
    "RNN",
    "SAGAN",
    "SDGM",
    "SNGAN",
    "SRNN",
    "VAE",
    "VQVAE",
    "VQVAE2",
    "VRNN",
    "BiGAN",
    "BigGAN",
    "ConditionalGAN",
    "ConditionalVAE",
    "ConvVAE",
    "CycleGAN",
    "FlowGAN",
    "HierarchicalVAE",
    "ImageToImage",
    "InfoGAN",
    "LadderVAE",
    "MaskedAutoencoder",
    "MoPoE",
    "ProgressiveGAN",
]
