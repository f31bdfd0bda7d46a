"""Normalizing flows: fast in both directions, as priors, posteriors and densities."""

from numpyro_dgm.flows.autoregressive import IAF, MAF, Autoregressive
from numpyro_dgm.flows.autoregressive_maps import NAF, AutoregressiveNSF, MAFMoG
from numpyro_dgm.flows.block import BNAF, BlockAutoregressive
from numpyro_dgm.flows.causal import CausalAutoregressive, ParallelWaveNet
from numpyro_dgm.flows.context_linear.base import ParametricTransform
from numpyro_dgm.flows.context_linear.householder import Householder, Reflection
from numpyro_dgm.flows.context_linear.planar import Planar, PlanarLayer
from numpyro_dgm.flows.context_linear.radial import Radial, RadialLayer
from numpyro_dgm.flows.context_linear.sylvester import Sylvester, SylvesterLayer
from numpyro_dgm.flows.continuous import ContinuousTransform
from numpyro_dgm.flows.coupling import NICE, NSF, Coupling, RealNVP
from numpyro_dgm.flows.external import ExternalFlow
from numpyro_dgm.flows.flow import Flow, FlowDistribution
from numpyro_dgm.flows.images import ImageCoupling, MultiScaleRealNVP
from numpyro_dgm.flows.linear import LU, Diagonal, Orthogonal, Permutation
from numpyro_dgm.flows.made import MADE
from numpyro_dgm.flows.norm import Normalization
from numpyro_dgm.flows.scalar import Affine, MixtureCDF, ScalarMap, Shift, Sigmoidal, Spline
from numpyro_dgm.flows.scales import FactoredOut, Squeezed
from numpyro_dgm.flows.tails import SinhArcsinh
from numpyro_dgm.flows.transform import Inverse, Transform

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
