"""Networks and layers."""

from dgm_core.attention import (
    block_attention,
    causal_attention,
    local_attention,
    summary_attention,
)
from tests.kinds import Network

NETWORKS: dict[str, Network] = {
    "Linear": Network("Linear", (5, 3), (5,), 3),
    "MLP": Network("MLP", (5, (7, 6)), (5,), 6),
    "MLP-out": Network("MLP", (5, (7,), 2), (5,), 2, {"activation": "tanh"}),
    "MLP-linear": Network("MLP", (5, (), 2), (5,), 2),
    "MLP-batch-norm": Network(
        "MLP", (5, (7, 6)), (5,), 6, {"activation": "gelu", "batch_norm": True}
    ),
    "MLP-dropout": Network("MLP", (5, (7, 6)), (5,), 6, {"activation": "elu", "dropout": 0.5}),
    "BatchNorm": Network("BatchNorm", (5,), (5,), 5),
    "LayerNorm": Network("LayerNorm", (5,), (5,), 5),
    "MaskedAttention": Network(
        "MaskedAttention", (4, causal_attention(5, strict=True)), (5, 4), (5, 4), {"num_heads": 2}
    ),
    "MaskedAttention-sparse": Network(
        "MaskedAttention", (4, summary_attention(7, 3)), (7, 4), (7, 4), {"head_dim": 3}
    ),
    "Positions": Network("Positions", ((2, 3), 5), (6, 5), (6, 5)),
    "Transformer": Network(
        "Transformer",
        (4, (block_attention((2, 3), (1, 2), memory=(1, 1)), local_attention(6, 2))),
        (6, 4),
        (6, 4),
        {"num_heads": 2},
    ),
    "UNet": Network(
        "UNet",
        ((2, 3, 5),),
        (2, 3, 5),
        (3, 3, 5),
        {"channels": (4,), "out_channels": 3, "num_blocks": 2, "num_heads": 2},
    ),
    "GRU": Network("GRU", (5, 5), (4, 5), (4, 5)),
    "GRU-reverse": Network("GRU", (5, 5), (4, 5), (4, 5), {"reverse": True}),
    "ConvEncoder": Network(
        "ConvEncoder",
        ((2, 9, 8),),
        (2, 9, 8),
        10,
        {"hidden_channels": (3, 4), "out_dim": 10, "activation": "tanh"},
    ),
    "ConvDecoder": Network(
        "ConvDecoder",
        (5, (2, 9, 7)),
        (5,),
        (3, 9, 7),
        {"hidden_channels": (4, 3), "out_channels": 3, "activation": "softplus"},
    ),
    "ConvEncoder-map": Network(
        "ConvEncoder",
        ((2, 9, 8),),
        (2, 9, 8),
        (5, 2, 2),
        {"hidden_channels": (3, 4), "out_channels": 5, "activation": "tanh"},
    ),
    "ConvDecoder-map": Network(
        "ConvDecoder",
        ((5, 2, 1), (2, 9, 7)),
        (5, 2, 1),
        (3, 9, 7),
        {"hidden_channels": (4, 3), "out_channels": 3, "activation": "softplus"},
    ),
}
for _activation in ("leaky_relu", "sigmoid", "silu", "softplus"):
    NETWORKS[f"MLP-{_activation}"] = Network("MLP", (5, (7,)), (5,), 7, {"activation": _activation})
