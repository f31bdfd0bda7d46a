"""Training objectives: sums of terms that compare the inference joint q(x, z) and the generative joint p(x, z) at named sites."""

from numpyro_dgm.losses.adversarial import AdversarialTerm
from numpyro_dgm.losses.base import Evaluation, Loss, Term
from numpyro_dgm.losses.constraints import KL, Constraint, Multiplier
from numpyro_dgm.losses.correlation import TotalCorrelation
from numpyro_dgm.losses.critics import Critic, ImageCritic, ProjectionCritic
from numpyro_dgm.losses.discrepancies import MMD, EnergyScore, SlicedWasserstein
from numpyro_dgm.losses.distillation import Distillation
from numpyro_dgm.losses.divergences import Divergence, divergence
from numpyro_dgm.losses.elbo import ELBO
from numpyro_dgm.losses.fgan import DensityRatio, FDivergence, JensenShannon
from numpyro_dgm.losses.information import MutualInformation
from numpyro_dgm.losses.iwae import IWAE
from numpyro_dgm.losses.joints import Joints
from numpyro_dgm.losses.kernels import IMQ, RBF, Kernel, RationalQuadratic
from numpyro_dgm.losses.likelihood import NLL, Reconstruction
from numpyro_dgm.losses.message_passing import cliques, message_passing
from numpyro_dgm.losses.ratio import RatioELBO
from numpyro_dgm.losses.recipes import AAE, VAEGAN, WAE, FactorVAE, InfoVAE
from numpyro_dgm.losses.regularizers import R1, R2, GradientPenalty, NoiseRegularizer
from numpyro_dgm.losses.wasserstein import Wasserstein

__all__ = [
    "AAE",
    "ELBO",
    "IMQ",
    "IWAE",
    "KL",
    "MMD",
    "NLL",
    "R1",
    "R2",
    "RBF",
    "VAEGAN",
    "WAE",
    "AdversarialTerm",
    "Constraint",
    "Critic",
    "DensityRatio",
    "Distillation",
    "Divergence",
    "EnergyScore",
    "Evaluation",
    "FDivergence",
    "FactorVAE",
    "GradientPenalty",
    "ImageCritic",
    "InfoVAE",
    "JensenShannon",
    "Joints",
    "Kernel",
    "Loss",
    "Multiplier",
    "MutualInformation",
    "NoiseRegularizer",
    "ProjectionCritic",
    "RatioELBO",
    "RationalQuadratic",
    "Reconstruction",
    "SlicedWasserstein",
    "Term",
    "TotalCorrelation",
    "Wasserstein",
    "cliques",
    "divergence",
    "message_passing",
]
