"""Diffusions as priors, densities and likelihoods."""

from numpyro_dgm.conditionals.diffusion.base import Diffusion
from numpyro_dgm.conditionals.diffusion.chain import Chain
from numpyro_dgm.conditionals.diffusion.distribution import DiffusionDistribution
from numpyro_dgm.conditionals.diffusion.schedules import LearnedSchedule

__all__ = ["Chain", "Diffusion", "DiffusionDistribution", "LearnedSchedule"]
