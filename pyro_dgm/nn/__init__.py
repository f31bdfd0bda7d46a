"""Networks, their registration inside models, and optimizers."""

from dgm_core.attention import (
    block_attention,
    causal_attention,
    composed,
    full_attention,
    local_attention,
    strided_attention,
    summary_attention,
)
from pyro_dgm.nn.attention import MaskedAttention
from pyro_dgm.nn.causal import CausalConv, CausalStack, GatedBlock
from pyro_dgm.nn.convolution import ConvDecoder, ConvEncoder
from pyro_dgm.nn.image_layers import (
    ConditionalBatchNorm,
    Conv2d,
    MinibatchStdDev,
    PixelNorm,
    halved,
    resized,
)
from pyro_dgm.nn.layers import BatchNorm, Dropout, LayerNorm, Linear
from pyro_dgm.nn.mlp import MLP
from pyro_dgm.nn.modes import evaluation_mode
from pyro_dgm.nn.ode import integrate, jacobian_trace
from pyro_dgm.nn.optimizers import Adam
from pyro_dgm.nn.pixel_scales import PixelScales
from pyro_dgm.nn.pixels import MaskedConv2d, PixelStacks
from pyro_dgm.nn.pooled import Pooled
from pyro_dgm.nn.progressive import Growth, ProgressiveGenerator, at_level, grown
from pyro_dgm.nn.recurrent import GRU
from pyro_dgm.nn.register import register
from pyro_dgm.nn.requirements import require
from pyro_dgm.nn.residual import (
    CriticBlock,
    GeneratorBlock,
    ResidualGenerator,
    SelfAttention,
    attend,
)
from pyro_dgm.nn.sequences import step_mask, without_padding
from pyro_dgm.nn.time_features import TimeFeatures
from pyro_dgm.nn.time_mlp import TimeMLP
from pyro_dgm.nn.time_transformer import TimeTransformer
from pyro_dgm.nn.transformer import Positions, Transformer, TransformerBlock
from pyro_dgm.nn.unet import UNet
from pyro_dgm.nn.weights import EqualizedRate, SpectralNorm, orthogonal_penalty, power_step

__all__ = [
    "GRU",
    "MLP",
    "Adam",
    "BatchNorm",
    "CausalConv",
    "CausalStack",
    "ConditionalBatchNorm",
    "Conv2d",
    "ConvDecoder",
    "ConvEncoder",
    "CriticBlock",
    "Dropout",
    "EqualizedRate",
    "GatedBlock",
    "GeneratorBlock",
    "Growth",
    "LayerNorm",
    "Linear",
    "MaskedAttention",
    "MaskedConv2d",
    "MinibatchStdDev",
    "PixelNorm",
    "PixelScales",
    "PixelStacks",
    "Pooled",
    "Positions",
    "ProgressiveGenerator",
    "ResidualGenerator",
    "SelfAttention",
    "SpectralNorm",
    "TimeFeatures",
    "TimeMLP",
    "TimeTransformer",
    "Transformer",
    "TransformerBlock",
    "UNet",
    "at_level",
    "attend",
    "block_attention",
    "causal_attention",
    "composed",
    "evaluation_mode",
    "full_attention",
    "grown",
    "halved",
    "integrate",
    "jacobian_trace",
    "local_attention",
    "orthogonal_penalty",
    "power_step",
    "register",
    "require",
    "resized",
    "step_mask",
    "strided_attention",
    "summary_attention",
    "without_padding",
]
