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
from numpyro_dgm.nn.attention import MaskedAttention
from numpyro_dgm.nn.causal import CausalConv, CausalStack, GatedBlock
from numpyro_dgm.nn.convolution import ConvDecoder, ConvEncoder
from numpyro_dgm.nn.image_layers import (
    ConditionalBatchNorm,
    Conv2d,
    MinibatchStdDev,
    PixelNorm,
    halved,
    resized,
)
from numpyro_dgm.nn.layers import BatchNorm, Dropout, LayerNorm, Linear
from numpyro_dgm.nn.mlp import MLP
from numpyro_dgm.nn.modes import evaluation_mode
from numpyro_dgm.nn.ode import integrate, jacobian_trace
from numpyro_dgm.nn.optimizers import Adam
from numpyro_dgm.nn.pixel_scales import PixelScales
from numpyro_dgm.nn.pixels import MaskedConv2d, PixelStacks
from numpyro_dgm.nn.pooled import Pooled
from numpyro_dgm.nn.progressive import Growth, ProgressiveGenerator, at_level, grown
from numpyro_dgm.nn.recurrent import GRU
from numpyro_dgm.nn.register import register
from numpyro_dgm.nn.requirements import require
from numpyro_dgm.nn.residual import (
    CriticBlock,
    GeneratorBlock,
    ResidualGenerator,
    SelfAttention,
    attend,
)
from numpyro_dgm.nn.sequences import step_mask, without_padding
from numpyro_dgm.nn.time_features import TimeFeatures
from numpyro_dgm.nn.time_mlp import TimeMLP
from numpyro_dgm.nn.time_transformer import TimeTransformer
from numpyro_dgm.nn.transformer import Positions, Transformer, TransformerBlock
from numpyro_dgm.nn.unet import UNet
from numpyro_dgm.nn.weights import EqualizedRate, SpectralNorm, orthogonal_penalty, power_step

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
