"""Guides for any model: they run the user's program and answer its latent sites."""

from numpyro_dgm.guides.amortized import AmortizedGuide, Merged, Prior
from numpyro_dgm.guides.auxiliary import AuxiliaryGuide
from numpyro_dgm.guides.base import Guide
from numpyro_dgm.guides.composite import CompositeGuide
from numpyro_dgm.guides.determined import Determined
from numpyro_dgm.guides.hamiltonian import HamiltonianGuide
from numpyro_dgm.guides.implicit import ImplicitGuide
from numpyro_dgm.guides.joint import JointGuide
from numpyro_dgm.guides.mixture import MixtureGuide

__all__ = [
    "AmortizedGuide",
    "AuxiliaryGuide",
    "CompositeGuide",
    "Determined",
    "Guide",
    "HamiltonianGuide",
    "ImplicitGuide",
    "JointGuide",
    "Merged",
    "MixtureGuide",
    "Prior",
]
