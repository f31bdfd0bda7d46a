"""Constructors of quantizers, of models of codes, and of relaxed variables."""

from typing import Any

CONTEXT = {"context_shape": "context"}
RELAXED = {"dim": "shape", "temperature": "weight", "learned": "flag", **CONTEXT}
CODES = {"code_dim": "count", "num_codes": "count", "pixel_features": "count"}

QUANTIZED: dict[str, tuple[tuple[Any, ...], dict[str, str]]] = {
    "VectorQuantizer": (
        (2, 4),
        {"dim": "shape", "num_codes": "count", "decay": "share or none", "restart": "share"},
    ),
    "FiniteScalarQuantizer": ((2, 5), {"dim": "shape", "levels": "shape"}),
    "GumbelSoftmax": ((3,), RELAXED),
    "RelaxedBernoulli": ((3,), RELAXED),
    "StraightThrough": ((3,), {"dim": "shape", **CONTEXT}),
    "Objective": (("x",), {"site": "site"}),
    "Commitment": (("z",), {"site": "site", "weight": "weight"}),
    "VQVAE": (
        (4, 2, 8),
        {
            "x_dim": "shape",
            **CODES,
            "positions": "count",
            "hidden": "sizes or none",
            "encoder": "network",
            "decoder": "network",
            "quantizer": "conditional",
            "prior": "conditional",
            "likelihood": "conditional",
        },
    ),
    "VQVAE2": (
        ((1, 8, 8), 2, 8),
        {"image_shape": "image", **CODES, "hidden": "sizes", "likelihood": "conditional"},
    ),
}
