"""Normalizing flows: fast in both directions, as priors, posteriors and densities."""

from numpyro_dgm.flows.autoregressive import IAF, MAF, Autoregressive
from numpyro_dgm.flows.external import ExternalFlow
from numpyro_dgm.flows.flow import Flow, FlowDistribution
from numpyro_dgm.flows.made import MADE
from numpyro_dgm.flows.transform import Inverse, Transform

__all__ = ["IAF", "MADE", "MAF", "Autoregressive", "ExternalFlow", "Flow", "FlowDistribution", "Inverse", "Transform"]
