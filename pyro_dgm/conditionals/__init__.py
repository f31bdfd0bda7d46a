"""Conditional distributions: priors, guides and likelihoods, all of one type."""

from dgm_core.contexts import Labels
from pyro_dgm.conditionals.autoregressive import (
    Autoregressive,
    AutoregressiveDistribution,
    CausalTransformer,
    ImageTransformer,
    SparseTransformer,
    WaveNet,
)
from pyro_dgm.conditionals.base import Conditional, Parametric, positive, size_of
from pyro_dgm.conditionals.bernoulli import Bernoulli
from pyro_dgm.conditionals.beta import Beta, Kumaraswamy
from pyro_dgm.conditionals.continuous_bernoulli import ContinuousBernoulli
from pyro_dgm.conditionals.coupled import CoupledLogisticMixture
from pyro_dgm.conditionals.discrete import Categorical, DiscretizedLogisticMixture
from pyro_dgm.conditionals.implicit import Generator, ImplicitDistribution, NoDensityError
from pyro_dgm.conditionals.logistic import LogisticMixture, StandardLogistic
from pyro_dgm.conditionals.logit_normal import LogitNormal
from pyro_dgm.conditionals.mixture import MixturePrior
from pyro_dgm.conditionals.multivariate import FullRankNormal, LowRankNormal
from pyro_dgm.conditionals.normal import DiagonalNormal, Normal, StandardNormal
from pyro_dgm.conditionals.student_t import StudentT
from pyro_dgm.conditionals.vamp import ExemplarPrior, VampPrior

__all__ = [
    "Autoregressive",
    "AutoregressiveDistribution",
    "Bernoulli",
    "Beta",
    "Categorical",
    "CausalTransformer",
    "Conditional",
    "ContinuousBernoulli",
    "CoupledLogisticMixture",
    "DiagonalNormal",
    "DiscretizedLogisticMixture",
    "ExemplarPrior",
    "FullRankNormal",
    "Generator",
    "ImageTransformer",
    "ImplicitDistribution",
    "Kumaraswamy",
    "Labels",
    "LogisticMixture",
    "LogitNormal",
    "LowRankNormal",
    "MixturePrior",
    "NoDensityError",
    "Normal",
    "Parametric",
    "SparseTransformer",
    "StandardLogistic",
    "StandardNormal",
    "StudentT",
    "VampPrior",
    "WaveNet",
    "positive",
    "size_of",
]
