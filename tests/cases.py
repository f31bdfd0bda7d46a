"""The registry: what there is to test, described once for both backends.

Constructors of the twins take the same arguments, so a case is a class name with its arguments and
values to feed it. A new conditional, network or model gets an entry here and with it every contract
and twin test.
"""

from math import prod
from typing import Any

from tests.kinds import GIVEN, Conditional, Flow, Model, Network, Pair

IMAGE = (2, 4, 6)
PIXELWISE = {"pixelwise": True}
PIXEL_CONTEXT = (3 * prod(IMAGE[1:]),)

CONDITIONALS: dict[str, Conditional] = {
    "StandardNormal": Conditional("StandardNormal", "conditionals", (IMAGE,), "real"),
    "StandardLogistic": Conditional("StandardLogistic", "conditionals", (IMAGE,), "real"),
    "DiagonalNormal": Conditional("DiagonalNormal", "conditionals", (3,), "real"),
    "DiagonalNormal-pixelwise": Conditional(
        "DiagonalNormal", "conditionals", (IMAGE,), "real", PIXELWISE, contexts=PIXEL_CONTEXT
    ),
    "LowRankNormal": Conditional("LowRankNormal", "conditionals", (4, 2), "real", small=(2, 1)),
    "FullRankNormal": Conditional("FullRankNormal", "conditionals", (3,), "real", small=(2,)),
    "FullRankNormal-1": Conditional("FullRankNormal", "conditionals", (1,), "real"),
    "MixturePrior": Conditional(
        "MixturePrior", "conditionals", (3, 5), "real", small=(2, 3), rsample=False
    ),
    "Normal": Conditional("Normal", "conditionals", (3,), "real"),
    "Normal-fixed": Conditional("Normal", "conditionals", (3,), "real", {"scale": 0.5}),
    "StudentT": Conditional("StudentT", "conditionals", (3,), "real"),
    "StudentT-fixed": Conditional("StudentT", "conditionals", (3,), "real", {"df": 5.0}),
    "Bernoulli": Conditional(
        "Bernoulli", "conditionals", (3,), "binary", rsample=False, outside=0.3
    ),
    "Bernoulli-pixelwise": Conditional(
        "Bernoulli",
        "conditionals",
        (IMAGE,),
        "binary",
        PIXELWISE,
        rsample=False,
        contexts=PIXEL_CONTEXT,
        outside=0.3,
    ),
    "ContinuousBernoulli": Conditional("ContinuousBernoulli", "conditionals", (3,), "unit"),
    "Beta": Conditional("Beta", "conditionals", (3,), "unit", outside=0.0),
    "Kumaraswamy": Conditional("Kumaraswamy", "conditionals", (3,), "unit", outside=1.0),
    "LogitNormal": Conditional("LogitNormal", "conditionals", (3,), "unit", outside=1.0),
    "Categorical": Conditional(
        "Categorical", "conditionals", (3, 4), "classes", small=(1, 4), rsample=False
    ),
    "Categorical-image": Conditional(
        "Categorical", "conditionals", (IMAGE, 4), "classes", small=(1, 4), rsample=False
    ),
    "DiscretizedLogisticMixture": Conditional(
        "DiscretizedLogisticMixture",
        "conditionals",
        (3, 4),
        "levels",
        small=(1, 3),
        rsample=False,
        outside=0.3,
    ),
    "DiscretizedLogisticMixture-pixelwise": Conditional(
        "DiscretizedLogisticMixture",
        "conditionals",
        (IMAGE, 2),
        "levels",
        PIXELWISE,
        rsample=False,
        contexts=PIXEL_CONTEXT,
        outside=0.3,
    ),
}

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
    "Flow-channels": Flow(
        "Flow",
        sizes=((3, 2, 2),),
        transforms=lambda dim: [
            ("LU", (dim,), {}),
            (
                "ImageCoupling",
                (dim, "channels"),
                {"context_dim": GIVEN, "hidden_channels": (2,), "swap": True},
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
    "Flow-mixture-coupling": Flow(
        "Flow",
        transforms=lambda dim: [
            (
                "Coupling",
                (dim, ("MixtureCDF", 3)),
                {"context_dim": GIVEN, "hidden": (7,), "swap": True},
            ),
            ("Coupling", (dim, ("Sigmoidal", 2)), {"context_dim": GIVEN, "hidden": (7,)}),
        ],
        base="StandardLogistic",
        slow="sample",
    ),
}

# ---- flows: autoregressive ones ----
MASKED = {"num_layers": 2, "hidden": (6,), "activation": "tanh"}
FLOWS |= {
    "MAF": Flow("MAF", settings=MASKED, slow="sample"),
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
    "Flow-autoregressive": Flow(
        "Flow",
        transforms=lambda dim: [
            (
                "Autoregressive",
                (dim,),
                {"context_dim": GIVEN, "hidden": (), "order": (*range(1, dim), 0)},
            ),
            (
                "Autoregressive",
                (dim, ("Shift",)),
                {"context_dim": GIVEN, "hidden": (2, 5), "activation": "tanh"},
            ),
        ],
        slow="log_prob",
    ),
}

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
        3 * 9 * 7,
        {"hidden_channels": (4, 3), "out_channels": 3, "activation": "softplus"},
    ),
}
for _activation in ("leaky_relu", "sigmoid", "silu", "softplus"):
    NETWORKS[f"MLP-{_activation}"] = Network("MLP", (5, (7,)), (5,), 7, {"activation": _activation})

SMALL = {"hidden": (7, 6)}
MODELS: dict[str, Model] = {
    "VAE": Model("VAE", (9, 2), (9,), SMALL),
    "VAE-linear": Model(
        "VAE",
        (9, 2),
        (9,),
        {"hidden": ()},
        {
            "posterior": ("conditionals", "FullRankNormal", (2,), {"context_dim": 9}),
            "likelihood": ("conditionals", "Normal", (9,), {"context_dim": 2}),
        },
        support="real",
    ),
    "VAE-mixture": Model(
        "VAE",
        (9, 2),
        (9,),
        SMALL,
        {
            "prior": ("conditionals", "MixturePrior", (2, 3), {}),
            "posterior": ("conditionals", "LowRankNormal", (2, 1), {"context_dim": 6}),
            "likelihood": (
                "conditionals",
                "DiscretizedLogisticMixture",
                (9, 2),
                {"context_dim": 7},
            ),
        },
        support="levels",
    ),
    "ConvVAE": Model(
        "ConvVAE",
        ((1, 8, 8), 2),
        (1, 8, 8),
        {"hidden_channels": (3, 4), "features": 6, "pixel_features": 2},
    ),
    "ConditionalVAE": Model("ConditionalVAE", (9, 2, 4), (9,), SMALL, labels=()),
    "ConditionalVAE-prior": Model(
        "ConditionalVAE",
        (9, 2, 6),
        (9,),
        SMALL,
        {"prior": ("conditionals", "DiagonalNormal", (2,), {"context_dim": 6})},
        labels=(2, 3),
    ),
}

# Models whose x has no density.
GANS: dict[str, Model] = {
    "GAN": Model("GAN", (3, 2), (3,), SMALL, support="real"),
    "DCGAN": Model(
        "DCGAN",
        ((2, 8, 9), 2),
        (2, 8, 9),
        {"hidden_channels": (4, 5), "pixel_features": 6},
        support="unit",
    ),
    "ConditionalGAN": Model("ConditionalGAN", (3, 2, 4), (3,), SMALL, labels=(), support="real"),
}

# Models that a critic trains together with their guides.
PAIRS: dict[str, Pair] = {
    "BiGAN": Pair(
        "BiGAN",
        (3, 2),
        (3,),
        SMALL,
        support="real",
        latents={"z": (2,)},
        loss=lambda l: l.JensenShannon(("x", "z")),
    ),
    "AVB": Pair(
        "AVB",
        (9, 2),
        (9,),
        {**SMALL, "noise_dim": 3, "noise_hidden": (5,)},
        latents={"z": (2,)},
        loss=lambda l: l.RatioELBO(),
    ),
    "FlowGAN": Pair(
        "FlowGAN",
        (3,),
        (3,),
        {},
        {"flow": ("flows", "RealNVP", (3,), {"num_layers": 2, "hidden": (5,)})},
        support="real",
        loss=lambda l: l.NLL() + 0.1 * l.JensenShannon("x"),
    ),
    "InfoGAN": Pair(
        "InfoGAN",
        (3, 2, 4, 2),
        (3,),
        SMALL,
        support="real",
        latents={"z": (2,), "c": (1,), "s": (2,)},
        loss=lambda l: (
            l.JensenShannon("x") + l.MutualInformation("c") + 0.1 * l.MutualInformation("s")
        ),
    ),
    "InfoGAN-classes": Pair(
        "InfoGAN",
        (3, 2, 4),
        (3,),
        SMALL,
        support="real",
        latents={"z": (2,), "c": (1,)},
        loss=lambda l: l.JensenShannon("x") + l.MutualInformation("c"),
    ),
}
