"""Training objectives: sums of terms that compare the inference joint q(x, z) and the generative joint p(x, z) at named sites."""

from pyro_dgm.losses.adversarial import AdversarialTerm
from pyro_dgm.losses.base import Evaluation, Loss, Term
from pyro_dgm.losses.critics import Critic, ImageCritic, ProjectionCritic
from pyro_dgm.losses.discrepancies import MMD, EnergyScore, SlicedWasserstein
from pyro_dgm.losses.distillation import Distillation
from pyro_dgm.losses.divergences import Divergence, divergence
from pyro_dgm.losses.elbo import ELBO
from pyro_dgm.losses.fgan import DensityRatio, FDivergence, JensenShannon
from pyro_dgm.losses.iwae import IWAE
from pyro_dgm.losses.joints import Joints
from pyro_dgm.losses.kernels import IMQ, RBF, Kernel, RationalQuadratic
from pyro_dgm.losses.likelihood import NLL, Reconstruction
from pyro_dgm.losses.ratio import RatioELBO
from pyro_dgm.losses.regularizers import R1, R2, GradientPenalty, NoiseRegularizer
from pyro_dgm.losses.wasserstein import Wasserstein

__all__ = [
    "ELBO",
    "IMQ",
    "IWAE",
    "MMD",
    "NLL",
    "R1",
    "R2",
    "RBF",
    "AdversarialTerm",
    "Critic",
    "DensityRatio",
    "Distillation",
    "Divergence",
    "EnergyScore",
    "Evaluation",
    "FDivergence",
    "GradientPenalty",
    "ImageCritic",
    "JensenShannon",
    "Joints",
    "Kernel",
    "Loss",
    "NoiseRegularizer",
    "ProjectionCritic",
    "RatioELBO",
    "RationalQuadratic",
    "Reconstruction",
    "SlicedWasserstein",
    "Term",
    "Wasserstein",
    "divergence",
]
