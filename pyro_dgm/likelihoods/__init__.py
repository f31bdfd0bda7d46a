"""Distributions of data given features: the last conditional of a model."""

from pyro_dgm.likelihoods.bernoulli import Bernoulli
from pyro_dgm.likelihoods.discrete import Categorical, DiscretizedLogisticMixture
from pyro_dgm.likelihoods.real import Normal, StudentT
from pyro_dgm.likelihoods.unit_interval import Beta, ContinuousBernoulli, Kumaraswamy, LogitNormal

__all__ = [
    "Bernoulli",
    "Beta",
    "Categorical",
    "ContinuousBernoulli",
    "DiscretizedLogisticMixture",
    "Kumaraswamy",
    "LogitNormal",
    "Normal",
    "StudentT",
]
