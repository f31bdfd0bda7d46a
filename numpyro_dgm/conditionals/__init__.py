"""Conditional distributions: priors, guides and likelihoods, all of one type."""

from dgm_core.contexts import Labels
from numpyro_dgm.conditionals.autoregressive import (
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
from numpyro_dgm.conditionals.base import Conditional, Parametric, positive, size_of
from numpyro_dgm.conditionals.bernoulli import Bernoulli
from numpyro_dgm.conditionals.beta import Beta, Kumaraswamy
from numpyro_dgm.conditionals.codebooks import CodePrior, Quantized
from numpyro_dgm.conditionals.continuous_bernoulli import ContinuousBernoulli
from numpyro_dgm.conditionals.coupled import CoupledLogisticMixture
from numpyro_dgm.conditionals.diffusion import (
    Chain,
    Diffusion,
    DiffusionDistribution,
    LearnedSchedule,
)
from numpyro_dgm.conditionals.discrete import Categorical, DiscretizedLogisticMixture
from numpyro_dgm.conditionals.energy import (
    Energy,
    NormalizedDistribution,
    UnnormalizedConditional,
    UnnormalizedDistribution,
    UnnormalizedError,
)
from numpyro_dgm.conditionals.implicit import Generator, ImplicitDistribution, NoDensityError
from numpyro_dgm.conditionals.laplace import Laplace
from numpyro_dgm.conditionals.linear_normal import LinearNormal
from numpyro_dgm.conditionals.logistic import LogisticMixture, StandardLogistic
from numpyro_dgm.conditionals.logit_normal import LogitNormal
from numpyro_dgm.conditionals.merge import merge, residual
from numpyro_dgm.conditionals.mixture import MixturePrior
from numpyro_dgm.conditionals.multivariate import FullRankNormal, LowRankNormal
from numpyro_dgm.conditionals.normal import DiagonalNormal, Normal, StandardNormal
from numpyro_dgm.conditionals.paths.affine import AffineMarkov
from numpyro_dgm.conditionals.paths.base import ObservedPath, Path
from numpyro_dgm.conditionals.paths.hidden_markov import HiddenMarkov
from numpyro_dgm.conditionals.paths.kalman import KalmanSmoother, LinearGaussian
from numpyro_dgm.conditionals.paths.markov import Markov
from numpyro_dgm.conditionals.paths.steps import Steps
from numpyro_dgm.conditionals.paths.transitions import Combiner, GatedTransition
from numpyro_dgm.conditionals.product import (
    MixtureOfExperts,
    ProductOfExperts,
    product_of_normals,
)
from numpyro_dgm.conditionals.quantized import (
    FiniteScalarQuantizer,
    Quantizer,
    VectorQuantizer,
)
from numpyro_dgm.conditionals.relaxed import GumbelSoftmax, RelaxedBernoulli, StraightThrough
from numpyro_dgm.conditionals.reshaped import Reshaped
from numpyro_dgm.conditionals.student_t import StudentT
from numpyro_dgm.conditionals.tilted import Tilted
from numpyro_dgm.conditionals.vamp import ExemplarPrior, VampPrior

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
