"""Networks, their registration inside models, and optimizers."""

from numpyro_dgm.nn.convolution import ConvDecoder, ConvEncoder
from numpyro_dgm.nn.layers import BatchNorm, Dropout, Linear
from numpyro_dgm.nn.mlp import MLP
from numpyro_dgm.nn.modes import evaluation_mode
from numpyro_dgm.nn.optimizers import Adam
from numpyro_dgm.nn.pooled import Pooled
from numpyro_dgm.nn.register import register
from numpyro_dgm.nn.requirements import require

__all__ = [
    "MLP",
    "Adam",
    "BatchNorm",
    "ConvDecoder",
    "ConvEncoder",
    "Dropout",
    "Linear",
    "Pooled",
    "evaluation_mode",
    "register",
    "require",
]
