"""Training objectives: sums of terms that compare the inference joint q(x, z) and the generative joint p(x, z) at named sites."""

from pyro_dgm.losses.adversarial import AdversarialTerm
from pyro_dgm.losses.base import Evaluation, Loss, Term
from pyro_dgm.losses.constraints import KL, Constraint, Multiplier
from pyro_dgm.losses.correlation import TotalCorrelation
from pyro_dgm.losses.critics import Critic, ImageCritic, ProjectionCritic
from pyro_dgm.losses.discrepancies import MMD, EnergyScore, SlicedWasserstein
from pyro_dgm.losses.distillation import Distillation
from pyro_dgm.losses.divergences import Divergence, divergence
from pyro_dgm.losses.elbo import ELBO
from pyro_dgm.losses.fgan import DensityRatio, FDivergence, JensenShannon
from pyro_dgm.losses.information import MutualInformation
from pyro_dgm.losses.iwae import IWAE
from pyro_dgm.losses.joints import Joints
from pyro_dgm.losses.kernels import IMQ, RBF, Kernel, RationalQuadratic
from pyro_dgm.losses.likelihood import NLL, Reconstruction
from pyro_dgm.losses.message_passing import cliques, message_passing
from pyro_dgm.losses.ratio import RatioELBO
from pyro_dgm.losses.recipes import AAE, VAEGAN, WAE, FactorVAE, InfoVAE
from pyro_dgm.losses.regularizers import R1, R2, GradientPenalty, NoiseRegularizer
from pyro_dgm.losses.wasserstein import Wasserstein

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
