"""Constructors of energies and of the terms that train them."""

from typing import Any

CHAINED = {"kernel": "function", "num_steps": "count"}

ENERGIES: dict[str, tuple[tuple[Any, ...], dict[str, str]]] = {
    "Energy": (
        (2,),
        {
            "dim": "shape",
            "net": "function",
            **CHAINED,
            "context_shape": "context",
        },
    ),
    "ContrastiveDivergence": (
        ("x",),
        {"site": "site", "kernel": "function", "steps": "count", "log_z": "count from zero"},
    ),
    "Persistent": (
        (6,),
        {"num": "count", "per_step": "divisor or none", "restart": "share", "start": "conditional"},
    ),
    "ConditionalNLL": (
        ("y",),
        {"site": "site", "num_particles": "count", "vectorize": "flag or none"},
    ),
    "RBM": ((4, 2), {"num_visible": "count", "num_hidden": "count", "num_steps": "count"}),
    "JEM": (
        (4, 3),
        {
            "x_dim": "count",
            "num_classes": "count",
            "hidden": "sizes",
            "classifier": "function",
            "base": "conditional",
            **CHAINED,
        },
    ),
    "ScoreMatching": (("x",), {"site": "site", "method": "word", "num_projections": "count"}),
    "DenoisingScoreMatching": (("x", 0.3), {"site": "site", "noise": "positive"}),
}
