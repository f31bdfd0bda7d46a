"""Training objectives: sums of terms that compare the inference joint q(x, z) and the generative
joint p(x, z) at named sites.
"""

from pyro_dgm.losses.adversarial.augmenting import Consistency, DiffAugment
from pyro_dgm.losses.adversarial.critics import Critic, ImageCritic, ProjectionCritic
from pyro_dgm.losses.adversarial.divergences import Divergence, divergence
from pyro_dgm.losses.adversarial.fgan import DensityRatio, FDivergence, JensenShannon
from pyro_dgm.losses.adversarial.hinge import Hinge
from pyro_dgm.losses.adversarial.message_passing import cliques, message_passing
from pyro_dgm.losses.adversarial.mutual_information import MutualInformation
from pyro_dgm.losses.adversarial.progressive_critics import ProgressiveCritic
from pyro_dgm.losses.adversarial.ratio import RatioELBO
from pyro_dgm.losses.adversarial.regularizers import R1, R2, GradientPenalty, NoiseRegularizer
from pyro_dgm.losses.adversarial.residual_critics import ResidualCritic
from pyro_dgm.losses.adversarial.term import AdversarialTerm
from pyro_dgm.losses.adversarial.total_correlation import TotalCorrelation
from pyro_dgm.losses.adversarial.wasserstein import Wasserstein
from pyro_dgm.losses.base import Evaluation, Loss, Term
from pyro_dgm.losses.bounds.distillation import ContrastiveDistillation, Distillation
from pyro_dgm.losses.bounds.elbo import ELBO
from pyro_dgm.losses.bounds.fivo import FIVO
from pyro_dgm.losses.bounds.iwae import IWAE
from pyro_dgm.losses.bounds.likelihood import NLL, ConditionalNLL, Reconstruction
from pyro_dgm.losses.bounds.wake_sleep import WakeSleep
from pyro_dgm.losses.bounds.weighted import JVI, Renyi, TailAdaptive
from pyro_dgm.losses.constraints import KL, Constraint, Multiplier
from pyro_dgm.losses.objectives import Commitment, Objective
from pyro_dgm.losses.orthogonal import OrthogonalPenalty
from pyro_dgm.losses.recipes import (
    aae,
    factor_vae,
    info_vae,
    jmvae,
    sub_sampled,
    vae_gan,
    wae,
)
from pyro_dgm.losses.samples.kernels import IMQ, RBF, Kernel, RationalQuadratic
from pyro_dgm.losses.samples.terms import MMD, EnergyScore, PowerLoss, SlicedWasserstein
from pyro_dgm.losses.samples.unpaired import Cycle, Identity
from pyro_dgm.losses.scores.contrastive_divergence import ContrastiveDivergence, Persistent
from pyro_dgm.losses.scores.denoising import DenoisingELBO, DenoisingError, ProgressiveDistillation
from pyro_dgm.losses.scores.flow_matching import FlowMatching
from pyro_dgm.losses.scores.noise_contrastive import NoiseContrastive
from pyro_dgm.losses.scores.score_matching import DenoisingScoreMatching, ScoreMatching
from pyro_dgm.losses.scores.transport import JacobianNorm, KineticEnergy

__all__ = [
    "ELBO",
    "FIVO",
    "IMQ",
    "IWAE",
    "JVI",
    "KL",
    "MMD",
    "NLL",
    "R1",
    "R2",
    "RBF",
    "AdversarialTerm",
    "Commitment",
    "ConditionalNLL",
    "Consistency",
    "Constraint",
    "ContrastiveDistillation",
    "ContrastiveDivergence",
    "Critic",
    "Cycle",
    "DenoisingELBO",
    "DenoisingError",
    "DenoisingScoreMatching",
    "DensityRatio",
    "DiffAugment",
    "Distillation",
    "Divergence",
    "EnergyScore",
    "Evaluation",
    "FDivergence",
    "FlowMatching",
    "GradientPenalty",
    "Hinge",
    "Identity",
    "ImageCritic",
    "JacobianNorm",
    "JensenShannon",
    "Kernel",
    "KineticEnergy",
    "Loss",
    "Multiplier",
    "MutualInformation",
    "NoiseContrastive",
    "NoiseRegularizer",
    "Objective",
    "OrthogonalPenalty",
    "Persistent",
    "PowerLoss",
    "ProgressiveCritic",
    "ProgressiveDistillation",
    "ProjectionCritic",
    "RatioELBO",
    "RationalQuadratic",
    "Reconstruction",
    "Renyi",
    "ResidualCritic",
    "ScoreMatching",
    "SlicedWasserstein",
    "TailAdaptive",
    "Term",
    "TotalCorrelation",
    "WakeSleep",
    "Wasserstein",
    "aae",
    "cliques",
    "divergence",
    "factor_vae",
    "info_vae",
    "jmvae",
    "message_passing",
    "sub_sampled",
    "vae_gan",
    "wae",
]
