"""Constructors of networks over images and of models that restore them."""

from typing import Any

IMAGES: dict[str, tuple[tuple[Any, ...], dict[str, str]]] = {
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
