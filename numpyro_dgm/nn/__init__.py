"""Conditionals, networks and their registration inside models."""

from numpyro_dgm.nn.conditional import Conditional, Parametric, positive, size_of
from numpyro_dgm.nn.convolution import ConvDecoder, ConvEncoder
from numpyro_dgm.nn.implicit import Generator, ImplicitDistribution, NoDensityError
from numpyro_dgm.nn.layers import BatchNorm, Dropout, Linear
from numpyro_dgm.nn.networks import MLP
from numpyro_dgm.nn.optim import Adam
from numpyro_dgm.nn.registration import evaluation_mode, register

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
