"""Constructors of continuous flows and of the terms that train them."""

from typing import Any

CONTINUOUS: dict[str, tuple[tuple[Any, ...], dict[str, str]]] = {
    "ContinuousTransform": (
        (2,),
        {
            "net": "shape",
            "context_shape": "context",
            "hidden": "sizes",
            "num_steps": "count",
            "solver": "word",
            "num_probes": "probes",
        },
    ),
    "FlowMatching": (("x",), {"site": "site", "coupling": "word"}),
    "KineticEnergy": (("x",), {"site": "site"}),
    "JacobianNorm": (("x",), {"site": "site"}),
}
