"""Models, and pairs that a critic trains together with their guides."""

import numpy as np

from dgm_core.contexts import Labels
from tests.kinds import Model, Pair

SMALL = {"hidden": (7, 6)}
MODELS: dict[str, Model] = {
    "VAE": Model("VAE", (9, 2), (9,), SMALL),
    "VAE-linear": Model(
        "VAE",
        (9, 2),
        (9,),
        {"hidden": ()},
        {
            "posterior": ("conditionals", "FullRankNormal", (2,), {"context_shape": 9}),
            "likelihood": ("conditionals", "Normal", (9,), {"context_shape": 2}),
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
            "posterior": ("conditionals", "LowRankNormal", (2, 1), {"context_shape": 6}),
            "likelihood": (
                "conditionals",
                "DiscretizedLogisticMixture",
                (9, 2),
                {"context_shape": 7},
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
    "VAE-vamp": Model(
        "VAE",
        (9, 2),
        (9,),
        SMALL,
        {
            "prior": (
                "conditionals",
                "VampPrior",
                (),
                {"num_components": 3, "learned_weights": True},
            ),
            "posterior": ("conditionals", "FullRankNormal", (2,), {"context_shape": 6}),
        },
    ),
    "VAE-exemplar": Model(
        "VAE",
        (9, 2),
        (9,),
        SMALL,
        {"prior": ("conditionals", "ExemplarPrior", (np.eye(9)[:4],), {})},
    ),
    "ConvVAE-vamp": Model(
        "ConvVAE",
        ((1, 8, 8), 2),
        (1, 8, 8),
        {"hidden_channels": (3, 4), "features": 6, "pixel_features": 2},
        {"prior": ("conditionals", "VampPrior", (), {"num_components": 3})},
    ),
    "ConditionalVAE": Model("ConditionalVAE", (9, 2, Labels(4)), (9,), SMALL, labels=()),
    "ConditionalVAE-prior": Model(
        "ConditionalVAE",
        (9, 2, (2, 3)),
        (9,),
        SMALL,
        {"prior": ("conditionals", "DiagonalNormal", (2,), {"context_shape": (2, 3)})},
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
    "SNGAN": Model("SNGAN", ((1, 4, 4), 2), (1, 4, 4), {"hidden_channels": (3,)}, support="unit"),
    "SAGAN": Model("SAGAN", ((1, 4, 4), 2), (1, 4, 4), {"hidden_channels": (3,)}, support="unit"),
    "ProgressiveGAN": Model(
        "ProgressiveGAN",
        ((1, 4, 4), 2, 0.6),
        (1, 4, 4),
        {"hidden_channels": (3,)},
        support="unit",
    ),
    "BigGAN": Model(
        "BigGAN",
        ((1, 4, 4), 2, 4),
        (1, 4, 4),
        {"hidden_channels": (3,)},
        labels=(),
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
    "DLGMM": Pair(
        "DLGMM",
        (9, 2, 4),
        (9,),
        SMALL | {"concentration": 1.5},
        latents={"v": (3,), "y": (), "z": (2,)},
        loss=lambda l: l.ELBO(enumerate="y", analytic_kl=True),
    ),
    "LadderVAE": Pair(
        "LadderVAE",
        (9, (3, 2)),
        (9,),
        {"hidden": (7,)},
        latents={"z2": (2,), "z1": (3,)},
        loss=lambda l: l.ELBO(free_bits={"z1": 0.1, "z2": 0.1}),
    ),
    "HierarchicalVAE": Pair(
        "HierarchicalVAE",
        (9, (3, 2)),
        (9,),
        {"hidden": (7,), "width": 5},
        latents={"z2": (2,), "z1": (3,)},
        loss=lambda l: l.ELBO(beta={"z2": 0.5}),
    ),
    "HierarchicalVAE-images": Pair(
        "HierarchicalVAE",
        ((1, 4, 4), (3, 2)),
        (1, 4, 4),
        {"hidden": (3,), "width": 5},
        latents={"z2": (2,), "z1": (3,)},
    ),
    **{
        name: Pair(
            name,
            sizes,
            (9,),
            SMALL | settings,
            latents={"y": (), **latents},
            loss=lambda l: l.ELBO(enumerate="y"),
        )
        for name, sizes, settings, latents in (
            ("M2", (9, 2, 4), {}, {"z": (2,)}),
            ("M1M2", (9, 3, 2, 4), {}, {"z2": (2,), "z1": (3,)}),
            ("ADGM", (9, 2, 4), {"a_dim": 3}, {"z": (2,), "a": (3,)}),
            ("SDGM", (9, 2, 4), {}, {"z": (2,), "a": (2,)}),
            ("GMVAE", (9, 2, 4), {}, {"z": (2,)}),
        )
    },
}
