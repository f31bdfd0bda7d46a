"""Guides for any model: they run the user's program and answer its latent sites."""

from pyro_dgm.guides.amortized import AmortizedGuide, Merged, Prior
from pyro_dgm.guides.auxiliary import AuxiliaryGuide
from pyro_dgm.guides.base import Guide
from pyro_dgm.guides.composite import CompositeGuide
from pyro_dgm.guides.determined import Determined
from pyro_dgm.guides.hamiltonian import HamiltonianGuide
from pyro_dgm.guides.implicit import ImplicitGuide
from pyro_dgm.guides.joint import JointGuide
from pyro_dgm.guides.mixture import MixtureGuide

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
