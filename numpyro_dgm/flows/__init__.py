"""Normalizing flows: fast in both directions, as priors, posteriors and densities."""

from numpyro_dgm.flows.flow import Flow, FlowDistribution
from numpyro_dgm.flows.transform import Inverse, Transform

__all__ = ["Flow", "FlowDistribution", "Inverse", "Transform"]
