"""Conditional distributions: priors, guides and likelihoods, all of one type."""

from dgm_core.contexts import Labels
from numpyro_dgm.conditionals.autoregressive import (
    Autoregressive,
    AutoregressiveDistribution,
    CausalTransformer,
    ImageTransformer,
    SparseTransformer,
    WaveNet,
)
from numpyro_dgm.conditionals.base import Conditional, Parametric, positive, size_of
from numpyro_dgm.conditionals.bernoulli import Bernoulli
from numpyro_dgm.conditionals.beta import Beta, Kumaraswamy
from numpyro_dgm.conditionals.continuous_bernoulli import ContinuousBernoulli
from numpyro_dgm.conditionals.coupled import CoupledLogisticMixture
from numpyro_dgm.conditionals.discrete import Categorical, DiscretizedLogisticMixture
from numpyro_dgm.conditionals.implicit import Generator, ImplicitDistribution, NoDensityError
from numpyro_dgm.conditionals.logistic import LogisticMixture, StandardLogistic
from numpyro_dgm.conditionals.logit_normal import LogitNormal
from numpyro_dgm.conditionals.mixture import MixturePrior
from numpyro_dgm.conditionals.multivariate import FullRankNormal, LowRankNormal
from numpyro_dgm.conditionals.normal import DiagonalNormal, Normal, StandardNormal
from numpyro_dgm.conditionals.student_t import StudentT
from numpyro_dgm.conditionals.vamp import ExemplarPrior, VampPrior

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
