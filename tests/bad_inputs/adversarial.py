"""Constructors of terms with a critic, of critics, and of blocks of adversarial networks."""

from typing import Any

PLAYERS = {"critic": "module", "optim": "optim", "critic_steps": "count", "regularizer": "function"}
TERM = {
    "sites": "sites",
    **PLAYERS,
    "instance_noise": "weight",
    "augment": "function",
    "past_fakes": "count",
}
SPECTRAL = {"activation": "word", "spectral_norm": "flag"}
CHANNELS = {"in_channels": "count", "out_channels": "count"}
BLOCK = {**CHANNELS, "spectral_norm": "word"}
IMAGES = {
    "image_shape": "image",
    "z_dim": "count",
    "hidden_channels": "sizes",
    "generator": "network",
    "prior": "conditional",
}

ADVERSARIAL: dict[str, tuple[tuple[Any, ...], dict[str, str]]] = {
    "JensenShannon": (("x",), {**TERM, "generator": "word"}),
    "FDivergence": (("x",), {**TERM, "f": "divergence", "generator": "word"}),
    "DensityRatio": (("x",), {**TERM, "f": "divergence"}),
    "Wasserstein": (
        ("x",),
        {
            "sites": "sites",
            "critic": "module",
            "optim": "optim",
            "critic_steps": "count",
            "instance_noise": "weight",
            "past_fakes": "count",
            "penalty": "function",
            "clip": "positive or none",
        },
    ),
    "Hinge": (("x",), TERM),
    "R1": ((), {"weight": "positive"}),
    "R2": ((), {"weight": "positive"}),
    "GradientPenalty": ((), {"weight": "positive"}),
    "NoiseRegularizer": ((), {"weight": "positive", "f": "divergence"}),
    "Critic": ((3,), {"dim": "count", "hidden": "sizes", **SPECTRAL}),
    "ImageCritic": (
        ((1, 8, 8),),
        {
            "image_shape": "image",
            "context_shape": "context",
            "hidden_channels": "sizes",
            "features": "count",
            **SPECTRAL,
        },
    ),
    "ProjectionCritic": (
        (3, 2),
        {"dim": "shape", "num_classes": "count", "encoder": "network", "spectral_norm": "flag"},
    ),
    "ResidualCritic": (
        ((1, 8, 8),),
        {
            "image_shape": "image",
            "num_classes": "count",
            "hidden_channels": "sizes",
            "num_flat": "count",
            "attention": "flag",
            "pooling": "word",
            "spectral_norm": "word",
            "minibatch_stddev": "flag",
        },
    ),
    "SNGAN": (((1, 8, 8), 2), IMAGES),
    "SAGAN": (((1, 8, 8), 2), IMAGES),
    "BigGAN": (((1, 8, 8), 2, 3), {**IMAGES, "num_classes": "count", "frequencies": "frequencies"}),
    "ProgressiveGAN": (((1, 8, 8), 2, 0.5), {**IMAGES, "growth": "weight"}),
    "ProgressiveGenerator": (
        (2, (1, 8, 8)),
        {"in_dim": "count", "image_shape": "image", "hidden_channels": "sizes"},
    ),
    "ProgressiveCritic": (
        ((1, 8, 8), 0.5),
        {"image_shape": "image", "growth": "weight", "hidden_channels": "sizes"},
    ),
    "OrthogonalPenalty": (("generator",), {"network": "site"}),
    "Growth": ((0.5,), {"schedule": "weight"}),
    "Cycle": ((("x", "y"),), {"sites": "sites"}),
    "Identity": ((("x", "y"),), {"sites": "sites"}),
    "CycleGAN": ((2,), {"x_shape": "shape", "y_shape": "shape or none", "to_x": "function"}),
    "Conv2d": ((2, 3), {**CHANNELS, "kernel_size": "count", "padding": "word", "bias": "flag"}),
    "ConditionalBatchNorm": ((3,), {"channels": "count", "context_shape": "context"}),
    "SelfAttention": (
        (4,),
        {
            "channels": "count",
            "key_channels": "count or none",
            "value_channels": "count or none",
            "spectral_norm": "word",
        },
    ),
    "GeneratorBlock": ((2, 3), {**BLOCK, "context_shape": "context"}),
    "CriticBlock": ((2, 3), {**BLOCK, "first": "flag", "halve": "flag"}),
    "ResidualGenerator": (
        (2, (1, 8, 8)),
        {
            "in_dim": "count",
            "image_shape": "image",
            "hidden_channels": "sizes",
            "context_shape": "context",
            "attention": "flag",
            "spectral_norm": "word",
        },
    ),
    "Consistency": ((lambda x: x,), {"augment": "function", "weight": "positive"}),
    "DiffAugment": ((), {"policies": "word", "reach": "share"}),
    "SpectralNorm": ((), {"layer": "module"}),
    "EqualizedRate": ((), {"layer": "module"}),
}
