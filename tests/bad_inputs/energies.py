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
    "ScoreMatching": (("x",), {"site": "site", "method": "word", "num_projections": "count"}),
    "DenoisingScoreMatching": (("x", 0.3), {"site": "site", "noise": "positive"}),
}
