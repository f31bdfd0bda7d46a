"""The two joints that every loss compares: what the author of a term works with."""

from numpyro_dgm.joints.inference import InferenceJoint
from numpyro_dgm.joints.joints import Joints
from numpyro_dgm.joints.structure import Structure

__all__ = ["InferenceJoint", "Joints", "Structure"]
