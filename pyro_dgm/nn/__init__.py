"""Networks, their registration inside models, and optimizers."""

from pyro_dgm.nn.convolution import ConvDecoder, ConvEncoder
from pyro_dgm.nn.layers import BatchNorm, Dropout, Linear
from pyro_dgm.nn.mlp import MLP
from pyro_dgm.nn.modes import evaluation_mode
from pyro_dgm.nn.optimizers import Adam
from pyro_dgm.nn.pooled import Pooled
from pyro_dgm.nn.register import register
from pyro_dgm.nn.requirements import require

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
