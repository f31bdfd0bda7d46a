"""Diffusions as priors, densities and likelihoods."""

from pyro_dgm.conditionals.diffusion.base import Diffusion
from pyro_dgm.conditionals.diffusion.chain import Chain
from pyro_dgm.conditionals.diffusion.distribution import DiffusionDistribution
from pyro_dgm.conditionals.diffusion.schedules import LearnedSchedule

__all__ = ["Chain", "Diffusion", "DiffusionDistribution", "LearnedSchedule"]
