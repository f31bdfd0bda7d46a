"""Normalizing flows: fast in both directions, as priors, posteriors and densities."""

from pyro_dgm.flows.autoregressive import IAF, MAF, Autoregressive
from pyro_dgm.flows.autoregressive_maps import NAF, AutoregressiveNSF, MAFMoG
from pyro_dgm.flows.block import BNAF, BlockAutoregressive
from pyro_dgm.flows.causal import CausalAutoregressive, ParallelWaveNet
from pyro_dgm.flows.context_linear.base import ParametricTransform
from pyro_dgm.flows.context_linear.householder import Householder, Reflection
from pyro_dgm.flows.context_linear.planar import Planar, PlanarLayer
from pyro_dgm.flows.context_linear.radial import Radial, RadialLayer
from pyro_dgm.flows.context_linear.sylvester import Sylvester, SylvesterLayer
from pyro_dgm.flows.continuous import ContinuousTransform
from pyro_dgm.flows.coupling import NICE, NSF, Coupling, RealNVP
from pyro_dgm.flows.external import ExternalFlow
from pyro_dgm.flows.flow import Flow, FlowDistribution
from pyro_dgm.flows.images import ImageCoupling, MultiScaleRealNVP
from pyro_dgm.flows.linear import LU, Diagonal, Orthogonal, Permutation
from pyro_dgm.flows.made import MADE
from pyro_dgm.flows.norm import Normalization
from pyro_dgm.flows.scalar import Affine, MixtureCDF, ScalarMap, Shift, Sigmoidal, Spline
from pyro_dgm.flows.scales import FactoredOut, Squeezed
from pyro_dgm.flows.tails import SinhArcsinh
from pyro_dgm.flows.transform import Inverse, Transform

__all__ = [
    "BNAF",
    "IAF",
    "LU",
    "MADE",
    "MAF",
    "NAF",
    "NICE",
    "NSF",
    "Affine",
    "Autoregressive",
    "AutoregressiveNSF",
    "BlockAutoregressive",
    "CausalAutoregressive",
    "ContinuousTransform",
    "Coupling",
    "Diagonal",
    "ExternalFlow",
    "FactoredOut",
    "Flow",
    "FlowDistribution",
    "Householder",
    "ImageCoupling",
    "Inverse",
    "MAFMoG",
    "MixtureCDF",
    "MultiScaleRealNVP",
    "Normalization",
    "Orthogonal",
    "ParallelWaveNet",
    "ParametricTransform",
    "Permutation",
    "Planar",
    "PlanarLayer",
    "Radial",
    "RadialLayer",
    "RealNVP",
    "Reflection",
    "ScalarMap",
    "Shift",
    "Sigmoidal",
    "SinhArcsinh",
    "Spline",
    "Squeezed",
    "Sylvester",
    "SylvesterLayer",
    "Transform",
]
