"""Constructors of networks over images and of models that restore them."""

from typing import Any

IMAGES: dict[str, tuple[tuple[Any, ...], dict[str, str]]] = {
    "Laplace": (
        (2,),
        {
            "dim": "shape",
            "context_shape": "context",
            "scale": "positive or none",
            "min_scale": "share",
        },
    ),
    "ImageToImage": (
        ((1, 8, 8),),
        {
            "image_shape": "image",
            "z_dim": "count",
            "hidden_only": "flag",
            "channels": "sizes",
            "pixel_features": "count",
            **dict.fromkeys(("net", "encoder"), "network"),
            **dict.fromkeys(("prior", "posterior", "likelihood"), "conditional"),
        },
    ),
    "MaskedAutoencoder": (
        ((1, 8, 8),),
        {
            "image_shape": "image",
            "patch_size": "count",
            "hidden_ratio": "share",
            "dim": "count",
            "num_layers": "count",
            "num_heads": "count",
            "decoder_dim": "count",
            "decoder_layers": "count",
            "likelihood": "conditional",
        },
    ),
    "TimeFeatures": ((4,), {"dim": "count"}),
    "UNet": (
        ((1, 8, 8),),
        {
            "image_shape": "image",
            "channels": "sizes",
            "out_channels": "count or none",
            "num_blocks": "count",
            "num_heads": "count",
            "context_shape": "context",
            "embedding_dim": "count or none",
            "activation": "word",
        },
    ),
}
