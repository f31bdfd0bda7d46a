"""Normalizing flows: fast in both directions, as priors, posteriors and densities."""

from pyro_dgm.flows.autoregressive import IAF, MAF, Autoregressive
from pyro_dgm.flows.external import ExternalFlow
from pyro_dgm.flows.flow import Flow, FlowDistribution
from pyro_dgm.flows.made import MADE
from pyro_dgm.flows.transform import Inverse, Transform

__all__ = ["IAF", "MADE", "MAF", "Autoregressive", "ExternalFlow", "Flow", "FlowDistribution", "Inverse", "Transform"]
