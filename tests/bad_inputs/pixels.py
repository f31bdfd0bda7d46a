"""Constructors of what runs over the pixels of an image, and of mixtures of logistics."""

from typing import Any

CONTEXT = {"context_shape": "context"}
NETWORK = {"hidden_channels": "count", "num_layers": "count", "kernel_size": "count"}
MIXTURE = {"dim": "shape", "num_components": "count", **CONTEXT, "min_scale": "share"}

PIXELS: dict[str, tuple[tuple[Any, ...], dict[str, str]]] = {
    "MaskedConv2d": (
        (2, 4),
        {
            "in_channels": "count",
            "out_channels": "count",
            "kernel_size": "count",
            "kind": "word",
            "groups": "count",
        },
    ),
    "PixelStacks": (
        (1, 2, 2, 3),
        {
            "in_channels": "count",
            "channels": "count",
            "num_layers": "count",
            "out_channels": "count",
            "kernel_size": "count",
            "context_size": "count",
        },
    ),
    "PixelScales": (
        (1, 2),
        {
            "in_channels": "count",
            "channels": "count",
            "num_layers": "count",
            "num_scales": "count",
            "context_size": "count",
        },
    ),
    "PixelCNNPlusPlus": (
        ((1, 3, 4),),
        {
            "dim": "image",
            "hidden_channels": "count",
            "num_layers": "count",
            "num_scales": "count",
            "one_hot": "flag",
            **CONTEXT,
        },
    ),
    "GatedPixelCNN": (((1, 3, 4),), {"dim": "image", **NETWORK, "one_hot": "flag", **CONTEXT}),
    "PixelCNN": (
        ((1, 3, 4),),
        {"dim": "image", **NETWORK, "activation": "word", "one_hot": "flag", **CONTEXT},
    ),
    "LogisticMixture": ((2,), MIXTURE),
    "CoupledLogisticMixture": ((2,), {**MIXTURE, "num_levels": "count"}),
}
