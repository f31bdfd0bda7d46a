"""The models, their parts and their losses, as the command line names them."""

from __future__ import annotations

from argparse import Namespace
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
PRIORS = {"standard": "StandardNormal", "mixture": "MixturePrior", "maf": "MAF"}
LIKELIHOODS = {
    "bernoulli": "Bernoulli",
    "continuous_bernoulli": "ContinuousBernoulli",
    "normal": "Normal",
    "student_t": "StudentT",
    "beta": "Beta",
    "kumaraswamy": "Kumaraswamy",
    "logit_normal": "LogitNormal",
    "discretized_logistic": "DiscretizedLogisticMixture",
}


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


_ALL = ("hidden", "z_dim", "prior", "posterior", "likelihood", "binarize")
_VAE: dict[str, Any] = {"flags": _ALL, "scored": True, "inferred": True}
_BOUNDS, _CRITICS = ("elbo", "iwae"), ("jensen_shannon", "wasserstein")

MODELS = {
    "vae": Model("VAE", "variational autoencoder of vectors", _BOUNDS, **_VAE),
    "conv_vae": Model("ConvVAE", "the same of images", _BOUNDS, of_images=True, **_VAE),
    "conditional_vae": Model("ConditionalVAE", "given a class", _BOUNDS, labeled=True, **_VAE),
    "avb": Model(
        "AVB",
        "a VAE whose guide has no density",
        ("ratio",),
        flags=tuple(flag for flag in _ALL if flag != "posterior"),
        inferred=True,
    ),
    "gan": Model("GAN", "generative adversarial network", _CRITICS, data="eight_gaussians"),
    "conditional_gan": Model(
        "ConditionalGAN", "given a class", ("jensen_shannon",), sites=("x", "y"), labeled=True
    ),
    "dcgan": Model("DCGAN", "a GAN of images", _CRITICS, of_images=True),
    "bigan": Model(
        "BiGAN",
        "a GAN that infers z",
        _CRITICS,
        data="eight_gaussians",
        sites=("x", "z"),
        inferred=True,
    ),
    "infogan": Model(
        "InfoGAN",
        "a GAN with a readable code",
        ("infogan",),
        flags=("hidden", "z_dim"),
        sizes=(10,),
    ),
    "flow_gan": Model(
        "FlowGAN",
        "a flow, by likelihood, critic or both",
        ("nll", "jensen_shannon", "hybrid"),
        data="two_moons",
        flags=(),
        scored=True,
    ),
}


@dataclass(frozen=True)
class Objective:
    """A loss: what it takes, the estimators of its gradient, and how it is built from the module
    `losses`, the arguments and the sites of the model.
    """

    build: Callable[[Any, Namespace, Any], Any]
    flags: tuple[str, ...] = ()
    estimators: tuple[str, ...] = ("reparam",)


LOSSES = {
    "elbo": Objective(
        lambda losses, given, _: losses.ELBO(
            beta=given.beta, num_particles=given.num_particles or 1, estimator=given.estimator
        ),
        ("estimator", "beta", "warmup", "num_particles"),
        ("reparam", "stl", "score"),
    ),
    "iwae": Objective(
        lambda losses, given, _: losses.IWAE(
            num_particles=given.num_particles or 10, estimator=given.estimator
        ),
        ("estimator", "num_particles"),
        ("reparam", "dreg"),
    ),
    "ratio": Objective(
        lambda losses, given, _: losses.RatioELBO(num_particles=given.num_particles or 1),
        ("num_particles",),
    ),
    "nll": Objective(lambda losses, given, _: losses.NLL()),
    "jensen_shannon": Objective(lambda losses, given, sites: losses.JensenShannon(sites)),
    "wasserstein": Objective(lambda losses, given, sites: losses.Wasserstein(sites)),
    "hybrid": Objective(
        lambda losses, given, sites: losses.NLL() + 0.1 * losses.JensenShannon(sites)
    ),
    "infogan": Objective(
        lambda losses, given, sites: losses.JensenShannon(sites) + losses.MutualInformation("c")
    ),
}
