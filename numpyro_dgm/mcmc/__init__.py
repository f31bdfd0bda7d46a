"""Transition kernels on unconstrained values, for chains, guides, energies and annealing.

A kernel maps (log_density, state, noise) to the next state and what happened. States are batched
over chains, data and particles; the noise is an argument, so that a transition is a pure function.
"""

from numpyro_dgm.mcmc.base import Info, Kernel, Noise, State, chain, start
from numpyro_dgm.mcmc.hamiltonian import HMC, MALA, bounded, leapfrog
from numpyro_dgm.mcmc.langevin import Langevin

__all__ = [
    "HMC",
    "MALA",
    "Info",
    "Kernel",
    "Langevin",
    "Noise",
    "State",
    "bounded",
    "chain",
    "leapfrog",
    "start",
]
