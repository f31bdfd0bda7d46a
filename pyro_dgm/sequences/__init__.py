"""Sequence models and guides from one step."""

from pyro_dgm.sequences.unroll import Unrolled, unroll

__all__ = ["Unrolled", "unroll"]
