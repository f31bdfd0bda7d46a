"""Constructors of diffusions and of the terms that train them."""

from typing import Any

CHAIN = {"num_steps": "count or none", "num_times": "count or none", "kl": "word"}

DIFFUSIONS: dict[str, tuple[tuple[Any, ...], dict[str, str]]] = {
    "Diffusion": (
        (2,),
        {
            "dim": "shape",
            "net": "network",
            "schedule": "module",
            "predict": "word",
            "variance": "word",
            "data_variance": "positive",
            "num_levels": "count or none",
            "method": "word",
            "num_steps": "count or none",
            "ode_steps": "count",
            "drop_context": "share",
            "context_shape": "context",
        },
    ),
    "LearnedSchedule": (
        (),
        {
            "num_steps": "count or none",
            "gamma_min": "number",
            "gamma_max": "number",
            "hidden": "count",
        },
    ),
    "DenoisingELBO": (
        ("x",),
        {"site": "sites", "beta": "weight", "num_particles": "count", **CHAIN},
    ),
    "DenoisingError": (("x",), {"site": "site", "weight": "word", "num_times": "count"}),
    "TimeMLP": (
        (2,),
        {
            "dim": "shape",
            "hidden": "sizes",
            "out_dim": "shape or none",
            "context_shape": "context",
            "activation": "word",
        },
    ),
    "TimeTransformer": (
        (2,),
        {
            "dim": "shape",
            "patch_size": "count",
            "width": "count",
            "num_layers": "count",
            "num_heads": "count",
            "out_dim": "shape or none",
            "context_shape": "context",
        },
    ),
}
