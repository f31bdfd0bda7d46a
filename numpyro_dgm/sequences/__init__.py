"""Sequence models and guides from one step."""

from numpyro_dgm.sequences.pairs import StepPair, WeightedStep, step_pair
from numpyro_dgm.sequences.unroll import Unrolled, continuing, unroll

__all__ = ["StepPair", "Unrolled", "WeightedStep", "continuing", "step_pair", "unroll"]
