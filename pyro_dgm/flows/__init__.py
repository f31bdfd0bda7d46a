"""Normalizing flows: fast in both directions, as priors, posteriors and densities."""

from pyro_dgm.flows.flow import Flow, FlowDistribution
from pyro_dgm.flows.transform import Inverse, Transform

__all__ = ["Flow", "FlowDistribution", "Inverse", "Transform"]
