"""Models with their guides, ready to train."""

from pyro_dgm.models.energy.jem import JEM
from pyro_dgm.models.energy.rbm import RBM
from pyro_dgm.models.gan.big_gan import BigGAN
from pyro_dgm.models.gan.bigan import BiGAN
from pyro_dgm.models.gan.conditional_gan import ConditionalGAN
from pyro_dgm.models.gan.cycle_gan import CycleGAN
from pyro_dgm.models.gan.dcgan import DCGAN
from pyro_dgm.models.gan.flow_gan import FlowGAN
from pyro_dgm.models.gan.gan import GAN
from pyro_dgm.models.gan.infogan import InfoGAN
from pyro_dgm.models.gan.progressive_gan import ProgressiveGAN
from pyro_dgm.models.gan.sngan import SAGAN, SNGAN
from pyro_dgm.models.image.image_to_image import ImageToImage
from pyro_dgm.models.image.masked_autoencoder import MaskedAutoencoder
from pyro_dgm.models.multimodal.jmvae import JMVAE
from pyro_dgm.models.multimodal.mixtures import MMVAE, MoPoE
from pyro_dgm.models.multimodal.mlvae import MLVAE
from pyro_dgm.models.multimodal.mvae import MVAE
from pyro_dgm.models.semi_supervised.adgm import ADGM, SDGM
from pyro_dgm.models.semi_supervised.m1 import M1
from pyro_dgm.models.semi_supervised.m1m2 import M1M2
from pyro_dgm.models.semi_supervised.m2 import M2
from pyro_dgm.models.sequence.dmm import DMM
from pyro_dgm.models.sequence.rnn import RNN
from pyro_dgm.models.sequence.srnn import SRNN
from pyro_dgm.models.sequence.vrnn import VRNN
from pyro_dgm.models.vae.avb import AVB
from pyro_dgm.models.vae.conditional_vae import ConditionalVAE
from pyro_dgm.models.vae.conv_vae import ConvVAE
from pyro_dgm.models.vae.dlgmm import DLGMM
from pyro_dgm.models.vae.gmvae import GMVAE
from pyro_dgm.models.vae.hierarchical import HierarchicalVAE
from pyro_dgm.models.vae.ladder import LadderVAE
from pyro_dgm.models.vae.vae import VAE
from pyro_dgm.models.vae.vq_vae import VQVAE
from pyro_dgm.models.vae.vq_vae_2 import VQVAE2

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
