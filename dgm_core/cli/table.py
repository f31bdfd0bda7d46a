"""The models, their parts and their losses, as the command line names them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__: list[str] = []  # for the package, not for users

POSTERIORS = {
    "diagonal": "DiagonalNormal",
    "low_rank": "LowRankNormal",
    "full_rank": "FullRankNormal",
    "householder": "Householder",
    "planar": "Planar",
    "sylvester": "Sylvester",
    "iaf": "IAF",
}
PRIORS = {
    "standard": "StandardNormal",
    "mixture": "MixturePrior",
    "maf": "MAF",
    "vamp": "VampPrior",
}
LIKELIHOODS = {
    "bernoulli": "Bernoulli",
    "continuous_bernoulli": "ContinuousBernoulli",
    "normal": "Normal",
    "laplace": "Laplace",
    "student_t": "StudentT",
    "beta": "Beta",
    "kumaraswamy": "Kumaraswamy",
    "logit_normal": "LogitNormal",
    "discretized_logistic": "DiscretizedLogisticMixture",
    "gated_pixel_cnn": "GatedPixelCNN",
}
BINARY = ("bernoulli", "gated_pixel_cnn")  # those of data that are 0 or 1


@dataclass(frozen=True)
class Model:
    """A model.

    Args:
        kind: its class.
        about: one line.
        losses: those that it is trained by, the default first.
        data: the default data set.
        flags: of its parts.
        sizes: what its constructor takes after the sizes of a datum and of z.
        sites: those that a critic compares.
        of_images: whether a datum is an image rather than a vector.
        labeled: whether it is given classes y beside x.
        scored: whether model and guide have densities, so that bounds can be computed.
        inferred: whether the guide infers z.
        layers: the latents are those of two layers, z_dim entries and half as many.
        latent: the site whose codes are shown;  summed, those that bounds sum out.
    """

    kind: str
    about: str
    losses: tuple[str, ...]
    data: str = "digits"
    flags: tuple[str, ...] = ("hidden", "z_dim", "prior")
    sizes: tuple[int, ...] = ()
    sites: tuple[str, ...] = ("x",)
    of_images: bool = False
    labeled: bool = False
    scored: bool = False
    inferred: bool = False
    layers: bool = False
    latent: str = "z"
    summed: tuple[str, ...] = ()


_PARTS = ("hidden", "z_dim", "prior", "likelihood", "binarize")
_BOUNDS, _CRITICS = ("elbo", "iwae"), ("jensen_shannon", "wasserstein")
_VAE: dict[str, Any] = {"flags": (*_PARTS, "posterior"), "scored": True, "inferred": True}
_DEEP = {**_VAE, "flags": ("hidden", "z_dim", "likelihood", "binarize")}
_CLASSES = {**_DEEP, "sizes": (10,), "summed": ("y",)}
_LAYERS = {**_DEEP, "layers": True, "latent": "z1"}
_PLANE = "eight_gaussians"

MODELS = {
    "vae": Model("VAE", "variational autoencoder of vectors", _BOUNDS, **_VAE),
    "conv_vae": Model("ConvVAE", "the same of images", _BOUNDS, of_images=True, **_VAE),
    "conditional_vae": Model("ConditionalVAE", "given a class", _BOUNDS, labeled=True, **_VAE),
    "gmvae": Model("GMVAE", "codes in ten clusters, which are summed out", _BOUNDS, **_CLASSES),
    "dlgmm": Model("DLGMM", "the same, with weights from stick breaking", _BOUNDS, **_CLASSES),
    "ladder_vae": Model("LadderVAE", "two layers, merged on the way down", _BOUNDS, **_LAYERS),
    "hierarchical_vae": Model("HierarchicalVAE", "two layers, from the top", _BOUNDS, **_LAYERS),
    "avb": Model("AVB", "its guide has no density", ("ratio",), flags=_PARTS, inferred=True),
    "gan": Model("GAN", "generative adversarial network", _CRITICS, _PLANE),
    "conditional_gan": Model(
        "ConditionalGAN", "given a class", _CRITICS[:1], sites=("x", "y"), labeled=True
    ),
    "dcgan": Model("DCGAN", "a GAN of images", _CRITICS, of_images=True),
    "bigan": Model(
        "BiGAN", "a GAN that infers z", _CRITICS, _PLANE, sites=("x", "z"), inferred=True
    ),
    "infogan": Model(
        "InfoGAN", "a GAN with a code", ("infogan",), flags=("hidden", "z_dim"), sizes=(10,)
    ),
    "flow_gan": Model(
        "FlowGAN", "a flow", ("nll", "hybrid", *_CRITICS[:1]), "two_moons", (), scored=True
    ),
}


@dataclass(frozen=True)
class Objective:
    """A loss.

    Args:
        terms: how it is built from the module `losses` and the sites of the model.
        flags: that it takes as arguments.
        estimators: of its gradient.
        num_particles: the default.
    """

    terms: Callable[..., Any]
    flags: tuple[str, ...] = ()
    estimators: tuple[str, ...] = ("reparam",)
    num_particles: int = 1


_DRAWS = ("num_particles", "estimator")
LOSSES = {
    "elbo": Objective(
        lambda l, _, **given: l.ELBO(**given), ("beta", *_DRAWS), ("reparam", "stl", "score")
    ),
    "iwae": Objective(lambda l, _, **given: l.IWAE(**given), _DRAWS, ("reparam", "dreg"), 10),
    "ratio": Objective(lambda l, _, **given: l.RatioELBO(**given), ("num_particles",)),
    "nll": Objective(lambda l, _: l.NLL()),
    "jensen_shannon": Objective(lambda l, sites: l.JensenShannon(sites)),
    "wasserstein": Objective(lambda l, sites: l.Wasserstein(sites)),
    "hybrid": Objective(lambda l, sites: l.NLL() + 0.1 * l.JensenShannon(sites)),
    "infogan": Objective(lambda l, sites: l.JensenShannon(sites) + l.MutualInformation("c")),
}
