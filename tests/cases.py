"""The registry: what there is to test, described once for both backends.

Constructors of the twins take the same arguments, so a case is a class name with its arguments and values to feed it. A new conditional, network or
model gets an entry here and with it every contract and twin test.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

Rng = np.random.Generator

# Values in the support of a distribution, of any shape.
VALUES: dict[str, Callable[[Rng, tuple[int, ...]], np.ndarray]] = {
    "real": lambda rng, shape: 1.5 * rng.standard_normal(shape),
    "unit": lambda rng, shape: rng.uniform(0.02, 0.98, shape),
    "binary": lambda rng, shape: rng.integers(0, 2, shape).astype(float),
    "levels": lambda rng, shape: rng.integers(0, 256, shape) / 255,
    "classes": lambda rng, shape: rng.integers(0, 4, shape),
}


@dataclass(frozen=True)
class Conditional:
    """A conditional distribution: `module.name(*sizes, context_dim=..., **settings)`."""

    name: str
    module: str
    sizes: tuple[Any, ...]
    support: str
    settings: dict[str, Any] = field(default_factory=dict)
    small: tuple[Any, ...] = (1,)  # sizes of one whose density can be integrated over a grid
    rsample: bool = True
    contexts: tuple[int, ...] = (0, 4)
    outside: float | None = None  # a value that must be refused

    @property
    def event_shape(self) -> tuple[int, ...]:
        dim = self.sizes[0]
        return dim if isinstance(dim, tuple) else (dim,)

    def values(self, rng: Rng, *batch_shape: int) -> np.ndarray:
        return VALUES[self.support](rng, (*batch_shape, *self.event_shape))


GIVEN = "the context_dim of the case"


@dataclass(frozen=True)
class Flow(Conditional):
    """A flow: `flows.name(*sizes, context_dim=..., **settings)`; a stack `Flow(dim, transforms)` of transforms (name, sizes, settings)."""

    module: str = "flows"
    sizes: tuple[Any, ...] = (3,)
    support: str = "real"
    small: tuple[Any, ...] = (2,)  # of one whose density can be integrated over a grid; () for none
    transforms: Callable[[int], list[tuple[str, tuple[Any, ...], dict[str, Any]]]] | None = None  # of the dimension; context_dim may be GIVEN
    base: str | None = None  # a prior, where it is not the default
    slow: str = ""  # "sample" or "log_prob": the direction that is not one pass


@dataclass(frozen=True)
class Network:
    """A network: `nn.name(*sizes, **settings)`, applied to arrays (*batch, *in_shape)."""

    name: str
    sizes: tuple[Any, ...]
    in_shape: tuple[int, ...]
    out_dim: int
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Model:
    """A model with its guide: `models.name(*sizes, **parts)`; a part is a conditional (module, name, sizes, settings)."""

    name: str
    sizes: tuple[Any, ...]
    x_shape: tuple[int, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    parts: dict[str, tuple[str, str, tuple[Any, ...], dict[str, Any]]] = field(default_factory=dict)
    labels: tuple[int, ...] | None = None  # the shape of y; () for integers
    support: str = "binary"

    def data(self, rng: Rng, batch: int) -> tuple[np.ndarray, ...]:
        x = VALUES[self.support](rng, (batch, *self.x_shape))
        if self.labels is None:
            return (x,)
        return x, rng.integers(0, 4, batch) if self.labels == () else rng.standard_normal((batch, *self.labels))


@dataclass(frozen=True)
class Pair(Model):
    """A model with its guide that is trained by a loss of its own: the shapes of its latent sites, and the loss, made from the module of losses."""

    latents: dict[str, tuple[int, ...]] = field(default_factory=dict)
    loss: Callable[[Any], Any] = lambda losses: losses.ELBO()


IMAGE = (2, 4, 6)
PIXELWISE = {"pixelwise": True}
PIXEL_CONTEXT = (3 * prod(IMAGE[1:]),)

CONDITIONALS: dict[str, Conditional] = {
    "StandardNormal": Conditional("StandardNormal", "conditionals", (IMAGE,), "real"),
    "StandardLogistic": Conditional("StandardLogistic", "conditionals", (IMAGE,), "real"),
    "DiagonalNormal": Conditional("DiagonalNormal", "conditionals", (3,), "real"),
    "DiagonalNormal-pixelwise": Conditional("DiagonalNormal", "conditionals", (IMAGE,), "real", PIXELWISE, contexts=PIXEL_CONTEXT),
    "LowRankNormal": Conditional("LowRankNormal", "conditionals", (4, 2), "real", small=(2, 1)),
    "FullRankNormal": Conditional("FullRankNormal", "conditionals", (3,), "real", small=(2,)),
    "FullRankNormal-1": Conditional("FullRankNormal", "conditionals", (1,), "real"),
    "MixturePrior": Conditional("MixturePrior", "conditionals", (3, 5), "real", small=(2, 3), rsample=False),
    "Normal": Conditional("Normal", "conditionals", (3,), "real"),
    "Normal-fixed": Conditional("Normal", "conditionals", (3,), "real", {"scale": 0.5}),
    "StudentT": Conditional("StudentT", "conditionals", (3,), "real"),
    "StudentT-fixed": Conditional("StudentT", "conditionals", (3,), "real", {"df": 5.0}),
    "Bernoulli": Conditional("Bernoulli", "conditionals", (3,), "binary", rsample=False, outside=0.3),
    "Bernoulli-pixelwise": Conditional("Bernoulli", "conditionals", (IMAGE,), "binary", PIXELWISE, rsample=False, contexts=PIXEL_CONTEXT, outside=0.3),
    "ContinuousBernoulli": Conditional("ContinuousBernoulli", "conditionals", (3,), "unit"),
    "Beta": Conditional("Beta", "conditionals", (3,), "unit", outside=0.0),
    "Kumaraswamy": Conditional("Kumaraswamy", "conditionals", (3,), "unit", outside=1.0),
    "LogitNormal": Conditional("LogitNormal", "conditionals", (3,), "unit", outside=1.0),
    "Categorical": Conditional("Categorical", "conditionals", (3, 4), "classes", small=(1, 4), rsample=False),
    "Categorical-image": Conditional("Categorical", "conditionals", (IMAGE, 4), "classes", small=(1, 4), rsample=False),
    "DiscretizedLogisticMixture": Conditional("DiscretizedLogisticMixture", "conditionals", (3, 4), "levels", small=(1, 3), rsample=False, outside=0.3),
    "DiscretizedLogisticMixture-pixelwise": Conditional(
        "DiscretizedLogisticMixture", "conditionals", (IMAGE, 2), "levels", PIXELWISE, rsample=False, contexts=PIXEL_CONTEXT, outside=0.3
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
    "NSF": Flow("NSF", settings={"num_layers": 2, "num_bins": 4, "bound": 3.0, "hidden": (7, 6), "activation": "tanh"}),
    "Householder": Flow("Householder", settings={"num_layers": 3}),
    "Planar": Flow("Planar", settings={"num_layers": 3}, slow="log_prob"),
    "Radial": Flow("Radial", settings={"num_layers": 3}),
    "Sylvester": Flow("Sylvester", settings={"num_layers": 2, "rank": 2, "num_reflections": 2}, slow="log_prob"),
    "MultiScaleRealNVP": Flow(
        "MultiScaleRealNVP",
        sizes=((1, 4, 4),),
        settings={"num_scales": 2, "num_layers": 1, "hidden_channels": (3,), "activation": "tanh"},
        small=(),
    ),
    "Flow-channels": Flow(
        "Flow",
        sizes=((3, 2, 2),),
        transforms=lambda dim: [("LU", (dim,), {}), ("ImageCoupling", (dim, "channels"), {"context_dim": GIVEN, "hidden_channels": (2,), "swap": True})],
        small=(),
    ),
    "Flow-linear": Flow(
        "Flow",
        transforms=lambda dim: [("Diagonal", (dim,), {}), ("Orthogonal", (dim,), {}), ("Permutation", ((*range(1, dim), 0),), {}), ("LU", (dim,), {})],
    ),
    "Flow-mixture-coupling": Flow(
        "Flow",
        transforms=lambda dim: [
            ("Coupling", (dim, ("MixtureCDF", 3)), {"context_dim": GIVEN, "hidden": (7,), "swap": True}),
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
    "MAFMoG": Flow("MAFMoG", settings={**MASKED, "num_layers": 1, "num_components": 3}, slow="sample"),
    "NAF": Flow("NAF", settings={**MASKED, "num_layers": 1, "num_components": 3}, slow="sample"),
    "AutoregressiveNSF": Flow("AutoregressiveNSF", settings={**MASKED, "num_layers": 1, "num_bins": 4, "bound": 3.0}, slow="sample"),
    "BNAF": Flow("BNAF", settings={"num_layers": 1, "hidden": (3, 2)}, slow="sample"),
    "Flow-autoregressive": Flow(
        "Flow",
        transforms=lambda dim: [
            ("Autoregressive", (dim,), {"context_dim": GIVEN, "hidden": (), "order": (*range(1, dim), 0)}),
            ("Autoregressive", (dim, ("Shift",)), {"context_dim": GIVEN, "hidden": (2, 5), "activation": "tanh"}),
        ],
        slow="log_prob",
    ),
}

NETWORKS: dict[str, Network] = {
    "Linear": Network("Linear", (5, 3), (5,), 3),
    "MLP": Network("MLP", (5, (7, 6)), (5,), 6),
    "MLP-out": Network("MLP", (5, (7,), 2), (5,), 2, {"activation": "tanh"}),
    "MLP-linear": Network("MLP", (5, (), 2), (5,), 2),
    "MLP-batch-norm": Network("MLP", (5, (7, 6)), (5,), 6, {"activation": "gelu", "batch_norm": True}),
    "MLP-dropout": Network("MLP", (5, (7, 6)), (5,), 6, {"activation": "elu", "dropout": 0.5}),
    "BatchNorm": Network("BatchNorm", (5,), (5,), 5),
    "ConvEncoder": Network("ConvEncoder", ((2, 9, 8),), (2, 9, 8), 10, {"hidden_channels": (3, 4), "out_dim": 10, "activation": "tanh"}),
    "ConvDecoder": Network("ConvDecoder", (5, (2, 9, 7)), (5,), 3 * 9 * 7, {"hidden_channels": (4, 3), "out_channels": 3, "activation": "softplus"}),
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
            "likelihood": ("conditionals", "DiscretizedLogisticMixture", (9, 2), {"context_dim": 7}),
        },
        support="levels",
    ),
    "ConvVAE": Model("ConvVAE", ((1, 8, 8), 2), (1, 8, 8), {"hidden_channels": (3, 4), "features": 6, "pixel_features": 2}),
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
    "DCGAN": Model("DCGAN", ((2, 8, 9), 2), (2, 8, 9), {"hidden_channels": (4, 5), "pixel_features": 6}, support="unit"),
    "ConditionalGAN": Model("ConditionalGAN", (3, 2, 4), (3,), SMALL, labels=(), support="real"),
}

# Models that a critic trains together with their guides.
PAIRS: dict[str, Pair] = {
    "BiGAN": Pair("BiGAN", (3, 2), (3,), SMALL, support="real", latents={"z": (2,)}, loss=lambda l: l.JensenShannon(("x", "z"))),
    "AVB": Pair("AVB", (9, 2), (9,), {**SMALL, "noise_dim": 3, "noise_hidden": (5,)}, latents={"z": (2,)}, loss=lambda l: l.RatioELBO()),
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
        loss=lambda l: l.JensenShannon("x") + l.MutualInformation("c") + 0.1 * l.MutualInformation("s"),
    ),
    "InfoGAN-classes": Pair(
        "InfoGAN", (3, 2, 4), (3,), SMALL, support="real", latents={"z": (2,), "c": (1,)}, loss=lambda l: l.JensenShannon("x") + l.MutualInformation("c")
    ),
}

# class, sizes, settings, and what the error must say.
BAD_CONDITIONALS: list[tuple[str, str, tuple[Any, ...], dict[str, Any], str]] = [
    ("conditionals", "StandardNormal", (0,), {}, "dim must be an integer of at least 1"),
    ("conditionals", "StandardLogistic", (-1,), {}, "dim must be .* got -1"),
    ("conditionals", "DiagonalNormal", (-2,), {}, "dim must be .* got -2"),
    ("conditionals", "DiagonalNormal", ((),), {}, "dim must be an integer of at least 1"),
    ("conditionals", "DiagonalNormal", (2,), {"context_dim": -1}, "context_dim must be at least 0"),
    ("conditionals", "DiagonalNormal", (2,), {"min_scale": -1.0}, r"must lie in \[0, 1\), got -1.0"),
    ("conditionals", "DiagonalNormal", ((2, 3),), {"context_dim": 4, "pixelwise": True}, "pixelwise needs a value of shape"),
    ("conditionals", "DiagonalNormal", (IMAGE,), {"context_dim": 7, "pixelwise": True}, "multiple of height"),
    ("conditionals", "DiagonalNormal", (IMAGE,), {"pixelwise": True}, "pixelwise needs"),
    ("conditionals", "LowRankNormal", (3, 0), {}, "rank must be at least 1"),
    ("conditionals", "LowRankNormal", (-3, 1), {}, "dim must be an integer of at least 1"),
    ("conditionals", "FullRankNormal", (0,), {}, "dim must be an integer of at least 1"),
    ("conditionals", "MixturePrior", (3, 0), {}, "num_components must be at least 1"),
    ("conditionals", "Bernoulli", (0,), {}, "dim must be an integer of at least 1"),
    ("conditionals", "Categorical", (3, 1), {}, "num_classes must be at least 2"),
    ("conditionals", "Normal", (3,), {"scale": 0.0}, "scale must be positive"),
    ("conditionals", "StudentT", (3,), {"df": -1.0}, "df must be positive"),
    ("conditionals", "Beta", (3,), {"min_concentration": 2.0}, "must lie in"),
    ("conditionals", "DiscretizedLogisticMixture", (3, 0), {}, "num_components must be at least 1"),
    ("conditionals", "DiscretizedLogisticMixture", (3, 2), {"num_levels": 1}, "num_levels must be at least 2"),
    ("conditionals", "StandardNormal", (2.5,), {}, "got 2.5"),
    ("conditionals", "DiagonalNormal", ("x",), {}, "got 'x'"),
    ("nn", "MLP", (3, 200), {}, r"hidden must be a sequence of sizes such as \(200,\), got 200"),
    ("nn", "MLP", (3, (0,)), {}, "sizes of an MLP must be at least 1"),
    ("nn", "MLP", (3, (4,)), {"activation": "swoosh"}, "activation must be one of .* got 'swoosh'"),
    ("nn", "MLP", (3, (4,)), {"dropout": 1.0}, "drop-out rate must lie in"),
    ("nn", "ConvEncoder", ((1, 8, 8),), {"out_dim": 0}, "sizes of a ConvEncoder must be at least 1"),
    ("nn", "ConvEncoder", ((1, 3, 3),), {}, "cannot be halved 2 times"),
    ("nn", "ConvEncoder", ((8, 8),), {}, "image_shape must be"),
    ("nn", "ConvDecoder", (2, (1, 3, 3)), {}, "cannot be halved 2 times"),
    ("nn", "ConvDecoder", (0, (1, 8, 8)), {}, "must be at least 1"),
    # flows: couplings and the classical ones
    ("flows", "RealNVP", (1,), {}, "dim of at least 2, .* got 1"),
    ("flows", "RealNVP", (3,), {"num_layers": 0}, "num_layers must be at least 1, got 0"),
    ("flows", "RealNVP", (3,), {"hidden": 64}, "hidden must be a sequence of sizes"),
    ("flows", "RealNVP", (3,), {"context_dim": -1}, "context_dim must be at least 0"),
    ("flows", "NICE", (2,), {"activation": "swoosh"}, "activation must be one of"),
    ("flows", "NSF", (3,), {"num_bins": 1}, r"num_bins must lie in \[2, 500\], got 1"),
    ("flows", "NSF", (3,), {"bound": 0.0}, "bound must be positive, got 0.0"),
    ("flows", "Householder", (0,), {}, "dim must be an integer of at least 1"),
    ("flows", "Householder", (3,), {"num_layers": 0}, "num_layers must be at least 1"),
    ("flows", "Planar", (3,), {"context_dim": -1}, "context_dim must be at least 0"),
    ("flows", "Planar", (3,), {"num_layers": -1}, "num_layers must be at least 1, got -1"),
    ("flows", "Radial", (3,), {"num_layers": 0}, "num_layers must be at least 1"),
    ("flows", "Sylvester", (3,), {"rank": 4}, r"rank must lie in \[1, 3\], got 4"),
    ("flows", "Sylvester", (3,), {"num_reflections": 0}, "num_reflections must be at least 1"),
    ("flows", "MultiScaleRealNVP", ((1, 6, 6),), {"num_scales": 3}, r"divisible by 2\^2, got \(1, 6, 6\)"),
    ("flows", "MultiScaleRealNVP", ((1, 8, 8),), {"num_scales": 0}, "num_scales must be at least 1"),
    ("flows", "MultiScaleRealNVP", ((1, 8, 8),), {"hidden_channels": ()}, "hidden_channels must be one or more"),
    ("flows", "MultiScaleRealNVP", ((1, 8, 8),), {"hidden_channels": 32}, "hidden_channels must be one or more sizes of at least 1, got 32"),
    ("flows", "ImageCoupling", ((1, 4, 4), "stripes"), {}, "mask must be 'checkerboard' or 'channels', got 'stripes'"),
    ("flows", "ImageCoupling", ((1, 4, 4), "channels"), {}, "needs two channels"),
    ("flows", "Diagonal", (0,), {}, "dim must be at least 1, got 0"),
    ("flows", "Orthogonal", (1,), {}, "dim must be at least 2, got 1"),
    ("flows", "LU", ((3, 4),), {}, r"shape \(channels, height, width\), got \(3, 4\)"),
    ("flows", "Permutation", ((0, 2),), {}, r"order must be a permutation .* got \(0, 2\)"),
    ("flows", "MAF", (3,), {"num_layers": 0}, "num_layers must be at least 1, got 0"),
    ("flows", "IAF", (0,), {}, "dim must be an integer of at least 1, got 0"),
    ("flows", "MAF", ((2, 2),), {}, r"dim must be an integer of at least 1, got \(2, 2\)"),
    ("flows", "MAF", (3,), {"hidden": 8}, r"hidden must be a sequence of sizes such as \(8,\), got 8"),
    ("flows", "NAF", (3,), {"num_components": 0}, "num_components must be at least 1"),
    ("flows", "MAFMoG", (3,), {"num_layers": 0}, "num_layers must be at least 1"),
    ("flows", "AutoregressiveNSF", (3,), {"num_bins": 1}, r"num_bins must lie in \[2, 500\]"),
    ("flows", "MADE", (3, 0), {}, "num_params must be at least 1, got 0"),
    ("flows", "MADE", (3, 2), {"order": (0, 0, 1)}, r"order must be a permutation of 0, ..., 2, got \(0, 0, 1\)"),
    ("flows", "MADE", (3, 2), {"hidden": (4, 0)}, r"hidden layers must be at least 1, got hidden=\(4, 0\)"),
    ("flows", "MADE", (3, 2), {"activation": "swoosh"}, "activation must be one of .* got 'swoosh'"),
    ("flows", "Autoregressive", (3,), {"context_dim": -1}, "context_dim must be at least 0"),
    ("flows", "BNAF", (3,), {"hidden": ()}, r"hidden must have at least one size, such as \(8,\), got \(\)"),
    ("flows", "BlockAutoregressive", (3,), {"order": (1, 2)}, "order must be a permutation"),
    ("flows", "MixtureCDF", (0,), {}, "num_components must be at least 1"),
    ("flows", "Sigmoidal", (-1,), {}, "num_components must be at least 1"),
    ("models", "VAE", (0, 2), {}, "must be at least 1"),
    ("models", "VAE", (4, 0), {}, "must be at least 1"),
    ("models", "ConditionalVAE", (4, 2, 0), {}, "context_dim must be at least 1"),
    ("models", "ConvVAE", ((1, 2, 2), 2), {}, "cannot be halved"),
    ("models", "BiGAN", (2, 0), {}, "must be an integer of at least 1"),
    ("models", "AVB", (4, 2), {"noise_dim": 0}, "noise_dim must be at least 1, got 0"),
    ("models", "FlowGAN", (1,), {}, "dim of at least 2, .* got 1"),
    ("models", "InfoGAN", (3, 0, 4), {}, "noise_dim must be at least 1 and num_codes at least 0, got 0 and 0"),
    ("models", "InfoGAN", (3, 2, 1), {}, "num_classes must be at least 2, got 1"),
    ("models", "GAN", (2, 0), {}, "must be at least 1"),
    ("models", "DCGAN", ((1, 2, 2), 2), {}, "cannot be halved"),
    ("models", "ConditionalGAN", (2, 2, 1), {}, "num_classes must be at least 2, got 1"),
]

# model, part, conditional, and what the error must say.
BAD_PARTS: list[tuple[str, str, tuple[str, str, tuple[Any, ...], dict[str, Any]], str]] = [
    ("VAE", "prior", ("conditionals", "StandardNormal", (3,), {}), r"The prior must give values of shape \(2,\) with context_dim=0, got StandardNormal\(3\)"),
    ("VAE", "prior", ("conditionals", "DiagonalNormal", (2,), {"context_dim": 6}), "The prior must .* and context_dim=6"),
    ("VAE", "posterior", ("conditionals", "DiagonalNormal", (2,), {"context_dim": 7}), "The posterior must .* context_dim=6, got"),
    ("VAE", "likelihood", ("conditionals", "Bernoulli", (8,), {"context_dim": 7}), r"The likelihood must .* \(9,\)"),
    ("ConvVAE", "likelihood", ("conditionals", "Bernoulli", (64,), {"context_dim": 128}), "The likelihood must"),
    ("ConditionalVAE", "prior", ("conditionals", "DiagonalNormal", (2,), {"context_dim": 5}), "context_dim=0 or context_dim=4"),
]
