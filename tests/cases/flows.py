"""Flows, and the scalar maps that couplings and autoregressive layers are made of."""

from typing import Any

from dgm_core.contexts import Labels
from tests.kinds import GIVEN, Flow

SCALARS: dict[str, tuple[str, tuple[Any, ...]]] = {
    "Affine": ("Affine", ()),
    "Shift": ("Shift", ()),
    "Spline": ("Spline", (5, 4.0)),
    "MixtureCDF": ("MixtureCDF", (3,)),
    "MixtureCDF-1": ("MixtureCDF", (1,)),
    "Sigmoidal": ("Sigmoidal", (3,)),
}

# ---- flows: couplings and the classical ones ----
NET = {"num_layers": 3, "hidden": (7,), "activation": "tanh"}
FLOWS: dict[str, Flow] = {
    "NICE": Flow("NICE", settings=NET),
    "RealNVP": Flow("RealNVP", settings=NET),
    "NSF": Flow(
        "NSF",
        settings={
            "num_layers": 2,
            "num_bins": 4,
            "bound": 3.0,
            "hidden": (7, 6),
            "activation": "tanh",
        },
    ),
    "Householder": Flow("Householder", settings={"num_layers": 3}),
    "Planar": Flow("Planar", settings={"num_layers": 3}, slow="log_prob"),
    "Radial": Flow("Radial", settings={"num_layers": 3}),
    "Sylvester": Flow(
        "Sylvester", settings={"num_layers": 2, "rank": 2, "num_reflections": 2}, slow="log_prob"
    ),
    "MultiScaleRealNVP": Flow(
        "MultiScaleRealNVP",
        sizes=((1, 4, 4),),
        settings={"num_scales": 2, "num_layers": 1, "hidden_channels": (3,), "activation": "tanh"},
        small=(),
    ),
    "MultiScaleRealNVP-map": Flow(
        "MultiScaleRealNVP",
        sizes=((1, 4, 4),),
        settings={"num_scales": 2, "num_layers": 1, "hidden_channels": (3,), "activation": "tanh"},
        small=(),
        contexts=((2, 4, 4),),
    ),
    "RealNVP-sequence": Flow("RealNVP", settings=NET, contexts=((3, 2),)),
    "Flow-channels": Flow(
        "Flow",
        sizes=((3, 2, 2),),
        transforms=lambda dim: [
            ("LU", (dim,), {}),
            (
                "ImageCoupling",
                (dim, "channels"),
                {"context_shape": GIVEN, "hidden_channels": (2,), "swap": True},
            ),
        ],
        small=(),
    ),
    "Flow-linear": Flow(
        "Flow",
        transforms=lambda dim: [
            ("Diagonal", (dim,), {}),
            ("Orthogonal", (dim,), {}),
            ("Permutation", ((*range(1, dim), 0),), {}),
            ("LU", (dim,), {}),
        ],
    ),
    "Flow-tails": Flow(
        "Flow",
        transforms=lambda dim: [("Diagonal", (dim,), {}), ("SinhArcsinh", (dim,), {})],
    ),
    "Flow-mixture-coupling": Flow(
        "Flow",
        transforms=lambda dim: [
            (
                "Coupling",
                (dim, ("MixtureCDF", 3)),
                {"context_shape": GIVEN, "hidden": (7,), "swap": True},
            ),
            ("Coupling", (dim, ("Sigmoidal", 2)), {"context_shape": GIVEN, "hidden": (7,)}),
        ],
        base="StandardLogistic",
        slow="sample",
    ),
}

# ---- flows: autoregressive ones ----
MASKED = {"num_layers": 2, "hidden": (6,), "activation": "tanh"}
FLOWS |= {
    "MAF": Flow("MAF", settings=MASKED, slow="sample"),
    "MAF-label": Flow("MAF", settings=MASKED, contexts=(Labels(4),), slow="sample"),
    "IAF": Flow("IAF", settings={**MASKED, "num_layers": 1, "hidden": (6, 5)}, slow="log_prob"),
    "MAFMoG": Flow(
        "MAFMoG", settings={**MASKED, "num_layers": 1, "num_components": 3}, slow="sample"
    ),
    "NAF": Flow("NAF", settings={**MASKED, "num_layers": 1, "num_components": 3}, slow="sample"),
    "AutoregressiveNSF": Flow(
        "AutoregressiveNSF",
        settings={**MASKED, "num_layers": 1, "num_bins": 4, "bound": 3.0},
        slow="sample",
    ),
    "BNAF": Flow("BNAF", settings={"num_layers": 1, "hidden": (3, 2)}, slow="sample"),
    "ParallelWaveNet": Flow(
        "ParallelWaveNet",
        settings={"num_layers": 2, "channels": 2, "dilations": (1, 2), "activation": "tanh"},
        contexts=(0, (4,)),  # an array of two axes is a sequence
        slow="log_prob",
    ),
    "ParallelWaveNet-sequence": Flow(
        "ParallelWaveNet",
        sizes=((4, 2),),
        settings={
            "num_layers": 1,
            "channels": 3,
            "dilations": (1,),
            "kernel_size": 3,
            "activation": "tanh",
        },
        small=(),
        contexts=((2, 3),),
        slow="log_prob",
    ),
    "Flow-autoregressive": Flow(
        "Flow",
        transforms=lambda dim: [
            (
                "Autoregressive",
                (dim,),
                {"context_shape": GIVEN, "hidden": (), "order": (*range(1, dim), 0)},
            ),
            (
                "Autoregressive",
                (dim, ("Shift",)),
                {"context_shape": GIVEN, "hidden": (2, 5), "activation": "tanh"},
            ),
        ],
        slow="log_prob",
    ),
}
