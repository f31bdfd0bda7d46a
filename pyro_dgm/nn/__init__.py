"""Conditionals, networks and their registration inside models."""

from pyro_dgm.nn.conditional import Conditional, Parametric, positive, size_of
from pyro_dgm.nn.convolution import ConvDecoder, ConvEncoder
from pyro_dgm.nn.implicit import Generator, ImplicitDistribution, NoDensityError
from pyro_dgm.nn.layers import BatchNorm, Dropout, Linear
from pyro_dgm.nn.networks import MLP
from pyro_dgm.nn.optim import Adam
from pyro_dgm.nn.registration import _modules_of as _modules_of
from pyro_dgm.nn.registration import evaluation_mode, register

__all__ = [
    "MLP",
    "Adam",
    "BatchNorm",
    "Conditional",
    "ConvDecoder",
    "ConvEncoder",
    "Dropout",
    "Generator",
    "ImplicitDistribution",
    "Linear",
    "NoDensityError",
    "Parametric",
    "evaluation_mode",
    "positive",
    "register",
    "size_of",
]
