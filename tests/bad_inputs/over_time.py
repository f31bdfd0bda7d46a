"""Constructors of what runs over time: networks, conditionals, flows and losses of waveforms."""

from typing import Any

from tests.bad_inputs.attention import ATTENTION
from tests.bad_inputs.pixels import PIXELS

CONTEXT = {"context_shape": "context"}
STACK = {"channels": "count", "dilations": "sizes", "kernel_size": "count", "activation": "word"}
SIZES = ("x_dim", "length", "hidden", "features")
STEPWISE = dict.fromkeys(SIZES, "count") | {"decoder": "network", "likelihood": "conditional"}
LATENT = {
    "z_dim": "count",
    "encoder": "network",
    "prior": "conditional",
    "posterior": "conditional",
}

OVER_TIME: dict[str, tuple[tuple[Any, ...], dict[str, str]]] = {
    **PIXELS,
    **ATTENTION,
    "FIVO": (
        (),
        {"num_particles": "count", "resample": "word", "scheme": "word", "estimator": "word"},
    ),
    "GRU": ((3, 2), {"in_dim": "count", "hidden": "count", "reverse": "flag"}),
    "LinearNormal": ((2,), {"dim": "count", **CONTEXT, "min_scale": "share"}),
    "GatedTransition": ((2,), {"z_dim": "count", "hidden": "count", "min_scale": "share"}),
    "Combiner": ((2, 3), {"z_dim": "count", "features": "count", "min_scale": "share"}),
    "Reshaped": ((None, 3), {"conditional": "conditional"}),
    "Steps": ((None, 3), {"conditional": "conditional", "length": "count"}),
    "Markov": (
        (None, 3),
        {"transition": "conditional", "length": "count", "initial": "conditional"},
    ),
    "AffineMarkov": (((3, 2),), {**CONTEXT, "min_scale": "share"}),
    "LinearGaussian": ((None, None), {"prior": "conditional"}),
    "KalmanSmoother": ((None, None), {"prior": "conditional"}),
    "HiddenMarkov": ((None, 3), {"emission": "conditional", "length": "count"}),
    "RNN": ((4, 3), STEPWISE),
    "VRNN": ((4, 2, 3), {**STEPWISE, **LATENT}),
    "SRNN": ((4, 2, 3), {**STEPWISE, **LATENT, "residual": "flag"}),
    "CausalConv": (
        (3, 2),
        {"in_dim": "count", "out_dim": "count", "kernel_size": "count", "dilation": "count"},
    ),
    "GatedBlock": ((3,), {"kernel_size": "count", "dilation": "count", "last": "flag"}),
    "CausalStack": (
        (1, 3, 8),
        {"in_dim": "count", "out_dim": "count", "num_steps": "count", **STACK, **CONTEXT},
    ),
    "WaveNet": ((8,), {"dim": "shape", **STACK, **CONTEXT}),
    "CausalAutoregressive": ((8,), {"dim": "shape", "scalar": "scalar", **STACK, **CONTEXT}),
    "ParallelWaveNet": (
        (8,),
        {"dim": "shape", "num_layers": "count", **STACK, **CONTEXT, "base": "conditional"},
    ),
    "ContrastiveDistillation": (
        (lambda x: None,),
        {"teacher": "function", "site": "site", "weight": "share", "analytic_entropy": "flag"},
    ),
    "PowerLoss": (
        ("x",),
        {
            "sites": "sites",
            "frame": "count",
            "hop": "count or none",
            "scale": "word",
            "floor": "positive or none",
        },
    ),
}
