"""Every argument of every public constructor, with every bad value of its kind.

A new class needs one line here: good arguments, and the kinds of all others.
"""

import inspect
import re
from collections.abc import Iterator
from functools import partial
from typing import Any

from tests.bad_inputs.adversarial import PLAYERS
from tests.bad_inputs.base import BAD, Row, Twin
from tests.bad_inputs.families import FAMILIES

CONTEXT = {"context_shape": "context"}
HIDDEN = {"hidden": "sizes", "activation": "word"}
FLOW = {"dim": "count", **CONTEXT, "num_layers": "count", "base": "conditional"}
COUPLINGS = {**FLOW, **HIDDEN}
PARTS = {"prior": "conditional", "posterior": "conditional", "likelihood": "conditional"}
CODERS = {"encoder": "network", "decoder": "network"}

CONSTRUCTORS: dict[str, tuple[tuple[Any, ...], dict[str, str]]] = {
    **FAMILIES,
    "Labels": ((3,), {"num_classes": "count"}),
    "Pooled": ((len, len), {"row_network": "function", "out_network": "function"}),
    # networks
    "MLP": (
        (3, (8,)),
        {
            "in_dim": "count",
            "out_dim": "count or none",
            **HIDDEN,
            "batch_norm": "flag",
            "dropout": "share",
        },
    ),
    "Linear": ((3, 2), {"in_dim": "count", "out_dim": "count"}),
    "BatchNorm": ((3,), {"dim": "count"}),
    "Dropout": ((0.5,), {"rate": "share"}),
    "ConvEncoder": (
        ((1, 8, 8),),
        {
            "image_shape": "image",
            "hidden_channels": "sizes",
            "out_dim": "count",
            "activation": "word",
            "out_channels": "count",
        },
    ),
    "ConvDecoder": (
        (2, (1, 8, 8)),
        {
            "in_dim": "count",
            "image_shape": "image",
            "hidden_channels": "sizes",
            "out_channels": "count",
            "activation": "word",
        },
    ),
    "Adam": ((), {"learning_rate": "positive", "betas": "betas", "eps": "positive"}),
    "Recipe": (
        (),
        {
            "learning_rate": "positive",
            "clip_norm": "positive",
            "num_steps": "count",
            "num_particles": "count",
        },
    ),
    # conditionals
    "Generator": ((2,), {"dim": "shape", "noise_dim": "count or none", **HIDDEN, **CONTEXT}),
    "StandardNormal": ((2,), {"dim": "shape", **CONTEXT}),
    "StandardLogistic": ((2,), {"dim": "shape", **CONTEXT}),
    "DiagonalNormal": ((2,), {"dim": "shape", **CONTEXT, "min_scale": "share"}),
    "FullRankNormal": ((2,), {"dim": "count", **CONTEXT, "min_scale": "share"}),
    "LowRankNormal": ((3, 2), {"dim": "count", "rank": "count", **CONTEXT, "min_scale": "share"}),
    "MixturePrior": (
        (2, 3),
        {"dim": "count", "num_components": "count", **CONTEXT, "min_scale": "share"},
    ),
    "VampPrior": (
        (),
        {
            "encoder": "network",
            "posterior": "conditional",
            "num_components": "count or none",
            "pseudo_inputs": "rows or none",
            "learned": "flag",
            "learned_weights": "flag",
            "bounds": "range or none",
            "mean": "mean or none",
            "dim": "shape or none",
            "x_shape": "shape or none",
        },
    ),
    "ExemplarPrior": (
        (((0.5, 0.2), (0.1, 0.3)),),
        {
            "exemplars": "rows",
            "encoder": "network",
            "posterior": "conditional",
            "min_scale": "share",
            "dim": "shape or none",
        },
    ),
    "Normal": (
        (2,),
        {"dim": "shape", **CONTEXT, "scale": "positive or none", "min_scale": "share"},
    ),
    "StudentT": (
        (2,),
        {"dim": "shape", **CONTEXT, "df": "positive or none", "min_scale": "share"},
    ),
    "Beta": ((2,), {"dim": "shape", **CONTEXT, "min_concentration": "share"}),
    "Kumaraswamy": ((2,), {"dim": "shape", **CONTEXT, "min_concentration": "share"}),
    "LogitNormal": ((2,), {"dim": "shape", **CONTEXT, "min_scale": "share"}),
    **dict.fromkeys(("Bernoulli", "ContinuousBernoulli"), ((2,), {"dim": "shape", **CONTEXT})),
    "Categorical": ((2, 3), {"dim": "shape or class", "num_classes": "count", **CONTEXT}),
    "DiscretizedLogisticMixture": (
        (2,),
        {
            "dim": "shape",
            "num_components": "count",
            "num_levels": "count",
            **CONTEXT,
            "min_scale": "share",
        },
    ),
    # flows
    "MAF": ((3,), COUPLINGS),
    "IAF": ((3,), COUPLINGS),
    "NAF": ((3,), {**COUPLINGS, "num_components": "count"}),
    "MAFMoG": ((3,), {**COUPLINGS, "num_components": "count"}),
    "AutoregressiveNSF": ((3,), {**COUPLINGS, "num_bins": "count", "bound": "positive"}),
    "BNAF": ((3,), {**FLOW, "hidden": "sizes"}),
    "NICE": ((3,), COUPLINGS),
    "RealNVP": ((3,), COUPLINGS),
    "NSF": ((3,), {**COUPLINGS, "num_bins": "count", "bound": "positive"}),
    "Householder": ((3,), FLOW),
    "Planar": ((3,), FLOW),
    "Radial": ((3,), FLOW),
    "Sylvester": ((3,), {**FLOW, "rank": "count or none", "num_reflections": "count or none"}),
    "MultiScaleRealNVP": (
        ((1, 4, 4),),
        {
            "image_shape": "image",
            **CONTEXT,
            "num_scales": "count",
            "num_layers": "count",
            "hidden_channels": "sizes",
            "activation": "word",
            "base": "conditional",
        },
    ),
    "Flow": (
        (3, ()),
        {"dim": "shape", "transforms": "transforms", **CONTEXT, "base": "conditional"},
    ),
    "MADE": (
        (3, 2),
        {"dim": "count", "num_params": "count", **HIDDEN, "order": "order", **CONTEXT},
    ),
    "Autoregressive": (
        (3,),
        {"dim": "count", "scalar": "scalar", **HIDDEN, "order": "order", **CONTEXT},
    ),
    "BlockAutoregressive": ((3,), {"dim": "count", "hidden": "sizes", "order": "order", **CONTEXT}),
    "Coupling": ((3,), {"dim": "count", "scalar": "scalar", **HIDDEN, **CONTEXT, "swap": "flag"}),
    "ImageCoupling": (
        ((1, 4, 4),),
        {
            "image_shape": "image",
            "mask": "word",
            "swap": "flag",
            "scalar": "scalar",
            **CONTEXT,
            "hidden_channels": "sizes",
            "activation": "word",
        },
    ),
    "Diagonal": ((3,), {"dim": "count"}),
    "Orthogonal": ((3,), {"dim": "count"}),
    "SinhArcsinh": ((3,), {"dim": "count"}),
    "LU": ((3,), {"dim": "shape"}),
    "Permutation": (((1, 0, 2),), {"order": "permutation"}),
    "Normalization": ((3,), {"dim": "count"}),
    "PlanarLayer": ((3,), {"dim": "count", **CONTEXT}),
    "RadialLayer": ((3,), {"dim": "count", **CONTEXT}),
    "Reflection": ((3,), {"dim": "count", **CONTEXT}),
    "SylvesterLayer": (
        (3, 2, 2),
        {"dim": "count", "rank": "count", "num_reflections": "count", **CONTEXT},
    ),
    "Inverse": ((None,), {"transform": "transform"}),
    "Squeezed": ((None,), {"transform": "transform"}),
    "FactoredOut": ((None,), {"transform": "transform"}),
    "Spline": ((), {"num_bins": "count", "bound": "positive"}),
    "MixtureCDF": ((), {"num_components": "count"}),
    "Sigmoidal": ((), {"num_components": "count"}),
    # models
    "DMM": (
        (4, 2, 3),
        {
            "x_dim": "count",
            "z_dim": "count",
            "length": "count",
            "hidden": "count",
            "features": "count",
            **CODERS,
            **PARTS,
        },
    ),
    "VAE": ((4, 2), {"x_dim": "count", "z_dim": "count", "hidden": "sizes", **CODERS, **PARTS}),
    "AVB": (
        (4, 2),
        {
            "x_dim": "count",
            "z_dim": "count",
            "noise_dim": "count or none",
            "noise_hidden": "sizes",
            "hidden": "sizes",
            **CODERS,
            **PARTS,
        },
    ),
    "ConditionalVAE": (
        (4, 2, 3),
        {
            "x_dim": "count",
            "z_dim": "count",
            "context_shape": "context",
            "hidden": "sizes",
            **CODERS,
            **PARTS,
        },
    ),
    "ConvVAE": (
        ((1, 8, 8), 2),
        {
            "image_shape": "image",
            "z_dim": "count",
            "hidden_channels": "sizes",
            "features": "count",
            "pixel_features": "count",
            **CODERS,
            **PARTS,
        },
    ),
    "GAN": (
        (4, 2),
        {
            "x_dim": "count",
            "z_dim": "count",
            "hidden": "sizes",
            "generator": "network",
            "prior": "conditional",
        },
    ),
    "DCGAN": (
        ((1, 8, 8), 2),
        {
            "image_shape": "image",
            "z_dim": "count",
            "hidden_channels": "sizes",
            "pixel_features": "count",
            "generator": "network",
            "prior": "conditional",
        },
    ),
    "BiGAN": (
        (4, 2),
        {
            "x_dim": "count",
            "z_dim": "count",
            "hidden": "sizes",
            "prior": "conditional",
            "generator": "conditional",
            "posterior": "conditional",
        },
    ),
    "ConditionalGAN": (
        (4, 2, 3),
        {
            "x_dim": "count",
            "z_dim": "count",
            "num_classes": "count",
            "hidden": "sizes",
            "frequencies": "frequencies",
            "generator": "network",
            "prior": "conditional",
        },
    ),
    "InfoGAN": (
        (4, 2, 3),
        {
            "x_dim": "count",
            "noise_dim": "count",
            "num_classes": "count",
            "num_codes": "count",
            "hidden": "sizes",
            "generator": "network",
            "encoder": "network",
        },
    ),
    "FlowGAN": ((3,), {"x_dim": "count", "flow": "conditional"}),
    # losses
    "ELBO": (
        (),
        {"beta": "weight", "num_particles": "count", "estimator": "word", "analytic_kl": "flag"},
    ),
    "IWAE": (
        (),
        {"num_particles": "count", "estimator": "word", "vectorize": "flag or none"},
    ),
    "Renyi": ((), {"num_particles": "count", "vectorize": "flag or none"}),
    "JVI": ((), {"order": "count", "num_particles": "count", "vectorize": "flag or none"}),
    "TailAdaptive": ((), {"num_particles": "count", "vectorize": "flag or none"}),
    "WakeSleep": ((), {"num_particles": "count", "guide": "word", "vectorize": "flag or none"}),
    "KL": ((), {"num_particles": "count", "analytic_kl": "flag"}),
    "Reconstruction": ((), {"num_particles": "count", "vectorize": "flag or none"}),
    "MMD": (("z",), {"sites": "sites", "kernel": "module", "unbiased": "flag", "linear": "flag"}),
    "EnergyScore": (("x",), {"sites": "sites", "beta": "positive", "num_samples": "count"}),
    "SlicedWasserstein": (("z",), {"sites": "sites", "num_directions": "count", "p": "positive"}),
    "TotalCorrelation": (("z",), {"sites": "sites", "num_particles": "count", **PLAYERS}),
    "RatioELBO": ((), {"contrast": "word", "num_particles": "count", **PLAYERS}),
    "MutualInformation": (
        ("c",),
        {"site": "site", "estimator": "word", "optim": "optim", "critic_steps": "count"},
    ),
    "Distillation": (
        (lambda x: None,),
        {"teacher": "function", "site": "site", "analytic_entropy": "flag"},
    ),
    "RBF": ((), {"length_scales": "numbers"}),
    "IMQ": ((), {"length_scales": "numbers"}),
    "RationalQuadratic": ((), {"length_scales": "numbers", "alphas": "numbers"}),
    "Multiplier": ((), {"initial": "positive", "signed": "flag"}),
    "aae": ((), {"weight": "positive", "divergence": "term"}),
    "wae": ((), {"weight": "positive", "divergence": "term"}),
    "vae_gan": ((), {"weight": "positive", "divergence": "term"}),
    "info_vae": ((0.0, 2.0), {"alpha": "number", "lambda_": "number", "divergence": "term"}),
    "factor_vae": ((), {"gamma": "positive"}),
}


def constructors(twin: Twin) -> Iterator[Row]:
    """Every argument of every constructor with every bad value of its kind."""
    for name, (good, kinds) in CONSTRUCTORS.items():
        make = getattr(twin, name)
        for argument, kind in kinds.items():
            for bad in BAD[kind]:
                given = inspect.signature(make).bind_partial(*good)
                given.arguments[argument] = bad
                call = partial(make, *given.args, **given.kwargs)
                yield Row(
                    f"{name}({argument}={bad!r})", call, rf"^{re.escape(argument)} must be .*, got "
                )
