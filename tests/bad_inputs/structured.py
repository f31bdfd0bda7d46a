"""Constructors of hierarchies, of clusters, and of models of labels."""

from typing import Any

LIKELIHOOD = {"likelihood": "conditional"}
LABELED = {
    "x_dim": "count",
    "z_dim": "count",
    "num_classes": "count",
    "hidden": "sizes",
    "prior": "conditional",
    **LIKELIHOOD,
}
NETWORKS = {"encoder": "network", "decoder": "network", "classifier": "network"}
AUXILIARY = {"a_dim": "count or none", "class_prior": "conditional", "posterior": "conditional"}
LAYERS = {"z_dims": "shape", **LIKELIHOOD}

STRUCTURED: dict[str, tuple[tuple[Any, ...], dict[str, str]]] = {
    "NLL": ((), {"site": "site or none"}),
    "LadderVAE": ((4, (3, 2)), {"x_dim": "count", "hidden": "sizes", **LAYERS}),
    "HierarchicalVAE": (
        (4, (3, 2)),
        {
            "x_shape": "shape",
            "width": "count",
            "hidden": "sizes or none",
            "encoder": "network",
            "decoder": "network",
            **LAYERS,
        },
    ),
    "DLGMM": ((4, 2, 3), {**LABELED, "concentration": "positive", "symmetric": "flag"}),
    "GMVAE": (
        (4, 2, 3),
        {
            **LABELED,
            **NETWORKS,
            "summed": "flag",
            "class_prior": "conditional",
            "posterior": "conditional",
        },
    ),
    "M1": ((4, 2, 3), {**LABELED, **NETWORKS, "posterior": "conditional"}),
    "M2": (
        (4, 2, 3),
        {**LABELED, **NETWORKS, "class_prior": "conditional", "posterior": "conditional"},
    ),
    "M1M2": (
        (4, 3, 2, 3),
        {
            "x_dim": "count",
            "z1_dim": "count",
            "z2_dim": "count",
            "num_classes": "count",
            "hidden": "sizes",
            "m1": "module",
            "m2": "module",
            **LIKELIHOOD,
        },
    ),
    "ADGM": ((4, 2, 3), {**LABELED, **AUXILIARY}),
    "SDGM": ((4, 2, 3), {**LABELED, **AUXILIARY}),
}
