"""Constructors of masked attention and of the autoregressive conditionals made of it."""

from typing import Any

from dgm_core.attention import causal_attention

CONTEXT = {"context_shape": "context", "one_hot": "flag"}
LAYERS = {"hidden_dim": "count", "num_layers": "count", "num_heads": "count", "context_as": "word"}

ATTENTION: dict[str, tuple[tuple[Any, ...], dict[str, str]]] = {
    "MaskedAttention": (
        (4, causal_attention(3)),
        {"dim": "count", "num_heads": "count", "head_dim": "count or none"},
    ),
    "Positions": ((3, 4), {"shape": "shape", "dim": "count"}),
    "TransformerBlock": ((4, causal_attention(3)), {"dim": "count", "num_heads": "count"}),
    "Transformer": ((4, [causal_attention(3)]), {"dim": "count", "num_heads": "count"}),
    "LayerNorm": ((4,), {"dim": "count"}),
    "CausalTransformer": ((4,), {"dim": "shape", **LAYERS, **CONTEXT}),
    "ImageTransformer": (((1, 2, 2),), {"image_shape": "image", **LAYERS, **CONTEXT}),
    "SparseTransformer": ((4,), {"dim": "shape", "pattern": "word", **LAYERS, **CONTEXT}),
    "PixelSNAIL": (
        ((1, 2, 2),),
        {
            "dim": "image",
            "hidden_channels": "count",
            "num_blocks": "count",
            "num_layers": "count",
            "kernel_size": "count",
            "num_heads": "count",
            "head_dim": "count or none",
            **CONTEXT,
        },
    ),
}
