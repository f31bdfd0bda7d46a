"""Autoregressive conditionals: densities in one pass, draws from caches in about one more."""

from numpyro_dgm.conditionals.autoregressive.base import Autoregressive
from numpyro_dgm.conditionals.autoregressive.distribution import AutoregressiveDistribution
from numpyro_dgm.conditionals.autoregressive.gated_pixel_cnn import GatedPixelCNN
from numpyro_dgm.conditionals.autoregressive.pixel_cnn import PixelCNN
from numpyro_dgm.conditionals.autoregressive.pixel_cnn_plus_plus import PixelCNNPlusPlus
from numpyro_dgm.conditionals.autoregressive.pixel_snail import PixelSNAIL
from numpyro_dgm.conditionals.autoregressive.pixels import Pixels
from numpyro_dgm.conditionals.autoregressive.transformers import (
    CausalTransformer,
    ImageTransformer,
    SparseTransformer,
)
from numpyro_dgm.conditionals.autoregressive.wavenet import WaveNet

__all__ = [
    "Autoregressive",
    "AutoregressiveDistribution",
    "CausalTransformer",
    "GatedPixelCNN",
    "ImageTransformer",
    "PixelCNN",
    "PixelCNNPlusPlus",
    "PixelSNAIL",
    "Pixels",
    "SparseTransformer",
    "WaveNet",
]
