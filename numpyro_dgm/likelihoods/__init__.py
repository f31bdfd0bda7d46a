"""Distributions of data given features: the last conditional of a model."""

from numpyro_dgm.likelihoods.bernoulli import Bernoulli

__all__ = ["Bernoulli"]
