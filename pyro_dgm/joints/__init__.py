"""The two joints that every loss compares: what the author of a term works with."""

from pyro_dgm.joints.inference import InferenceJoint
from pyro_dgm.joints.joints import Joints
from pyro_dgm.joints.structure import Structure

__all__ = ["InferenceJoint", "Joints", "Structure"]
