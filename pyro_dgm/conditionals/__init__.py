"""Conditional distributions: priors, guides and likelihoods, all of one type."""

from dgm_core.contexts import Labels
from pyro_dgm.conditionals.autoregressive import (
    Autoregressive,
    AutoregressiveDistribution,
    CausalTransformer,
    GatedPixelCNN,
    ImageTransformer,
    PixelCNN,
    PixelCNNPlusPlus,
    Pixels,
    PixelSNAIL,
    SparseTransformer,
    WaveNet,
)
from pyro_dgm.conditionals.base import Conditional, Parametric, positive, size_of
from pyro_dgm.conditionals.bernoulli import Bernoulli
from pyro_dgm.conditionals.beta import Beta, Kumaraswamy
from pyro_dgm.conditionals.codebooks import CodePrior, Quantized
from pyro_dgm.conditionals.continuous_bernoulli import ContinuousBernoulli
from pyro_dgm.conditionals.coupled import CoupledLogisticMixture
from pyro_dgm.conditionals.diffusion import (
    Chain,
    Diffusion,
    DiffusionDistribution,
    LearnedSchedule,
)
from pyro_dgm.conditionals.discrete import Categorical, DiscretizedLogisticMixture
from pyro_dgm.conditionals.energy import (
    Energy,
    NormalizedDistribution,
    UnnormalizedConditional,
    UnnormalizedDistribution,
    UnnormalizedError,
)
from pyro_dgm.conditionals.implicit import Generator, ImplicitDistribution, NoDensityError
from pyro_dgm.conditionals.laplace import Laplace
from pyro_dgm.conditionals.linear_normal import LinearNormal
from pyro_dgm.conditionals.logistic import LogisticMixture, StandardLogistic
from pyro_dgm.conditionals.logit_normal import LogitNormal
from pyro_dgm.conditionals.merge import merge, residual
from pyro_dgm.conditionals.mixture import MixturePrior
from pyro_dgm.conditionals.multivariate import FullRankNormal, LowRankNormal
from pyro_dgm.conditionals.normal import DiagonalNormal, Normal, StandardNormal
from pyro_dgm.conditionals.paths.affine import AffineMarkov
from pyro_dgm.conditionals.paths.base import ObservedPath, Path
from pyro_dgm.conditionals.paths.hidden_markov import HiddenMarkov
from pyro_dgm.conditionals.paths.kalman import KalmanSmoother, LinearGaussian
from pyro_dgm.conditionals.paths.markov import Markov
from pyro_dgm.conditionals.paths.steps import Steps
from pyro_dgm.conditionals.paths.transitions import Combiner, GatedTransition
from pyro_dgm.conditionals.product import (
    MixtureOfExperts,
    ProductOfExperts,
    product_of_normals,
)
from pyro_dgm.conditionals.quantized import (
    FiniteScalarQuantizer,
    Quantizer,
    VectorQuantizer,
)
from pyro_dgm.conditionals.relaxed import GumbelSoftmax, RelaxedBernoulli, StraightThrough
from pyro_dgm.conditionals.reshaped import Reshaped
from pyro_dgm.conditionals.student_t import StudentT
from pyro_dgm.conditionals.tilted import Tilted
from pyro_dgm.conditionals.vamp import ExemplarPrior, VampPrior

__all__ = [
    "AffineMarkov",
    "Autoregressive",
    "AutoregressiveDistribution",
    "Bernoulli",
    "Beta",
    "Categorical",
    "CausalTransformer",
    "Chain",
    "CodePrior",
    "Combiner",
    "Conditional",
    "ContinuousBernoulli",
    "CoupledLogisticMixture",
    "DiagonalNormal",
    "Diffusion",
    "DiffusionDistribution",
    "DiscretizedLogisticMixture",
    "Energy",
    "ExemplarPrior",
    "FiniteScalarQuantizer",
    "FullRankNormal",
    "GatedPixelCNN",
    "GatedTransition",
    "Generator",
    "GumbelSoftmax",
    "HiddenMarkov",
    "ImageTransformer",
    "ImplicitDistribution",
    "KalmanSmoother",
    "Kumaraswamy",
    "Labels",
    "Laplace",
    "LearnedSchedule",
    "LinearGaussian",
    "LinearNormal",
    "LogisticMixture",
    "LogitNormal",
    "LowRankNormal",
    "Markov",
    "MixtureOfExperts",
    "MixturePrior",
    "NoDensityError",
    "Normal",
    "NormalizedDistribution",
    "ObservedPath",
    "Parametric",
    "Path",
    "PixelCNN",
    "PixelCNNPlusPlus",
    "PixelSNAIL",
    "Pixels",
    "ProductOfExperts",
    "Quantized",
    "Quantizer",
    "RelaxedBernoulli",
    "Reshaped",
    "SparseTransformer",
    "StandardLogistic",
    "StandardNormal",
    "Steps",
    "StraightThrough",
    "StudentT",
    "Tilted",
    "UnnormalizedConditional",
    "UnnormalizedDistribution",
    "UnnormalizedError",
    "VampPrior",
    "VectorQuantizer",
    "WaveNet",
    "merge",
    "positive",
    "product_of_normals",
    "residual",
    "size_of",
]
