"""Annealed importance sampling, all but its transitions: inverse temperatures, passes over the
data, bounds from the weights, and the file that a killed run goes on from.
"""

from dgm_core.annealing.bounds import AnnealedBounds
from dgm_core.annealing.schedules import inverse_temperatures, optimal_temperatures

__all__ = ["AnnealedBounds", "inverse_temperatures", "optimal_temperatures"]
