"""Autoregressive conditionals: densities in one pass, draws from caches in about one more."""

from pyro_dgm.conditionals.autoregressive.base import Autoregressive
from pyro_dgm.conditionals.autoregressive.distribution import AutoregressiveDistribution
from pyro_dgm.conditionals.autoregressive.gated_pixel_cnn import GatedPixelCNN
from pyro_dgm.conditionals.autoregressive.pixel_cnn import PixelCNN
from pyro_dgm.conditionals.autoregressive.pixel_cnn_plus_plus import PixelCNNPlusPlus
from pyro_dgm.conditionals.autoregressive.pixel_snail import PixelSNAIL
from pyro_dgm.conditionals.autoregressive.pixels import Pixels
from pyro_dgm.conditionals.autoregressive.transformers import (
    CausalTransformer,
    ImageTransformer,
    SparseTransformer,
)
from pyro_dgm.conditionals.autoregressive.wavenet import WaveNet

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
