"""Deep generative models as ordinary model/guide pairs.

Models and their guides (`models`), the conditional distributions that they are made of
(`conditionals`, `flows`), training objectives (`losses`), the training loop (`fit`), and what is
asked of a trained model (`evaluation`).
"""

from dgm_core.importing import unchanged

with unchanged():  # the libraries add warning filters and draw random numbers
    from numpyro_dgm import (
        conditionals,
        evaluation,
        flows,
        guides,
        joints,
        losses,
        mcmc,
        models,
        nn,
        sequences,
        training,
    )
    from numpyro_dgm.evaluation import (
        generate,
        latents,
        log_weights,
        predict,
        prior_predictive,
        reconstruct,
        to_arviz,
    )
    from numpyro_dgm.guides import (
        AmortizedGuide,
        AuxiliaryGuide,
        CompositeGuide,
        Guide,
        HamiltonianGuide,
        ImplicitGuide,
        JointGuide,
    )
    from numpyro_dgm.losses import ELBO, IWAE, NLL, Reconstruction
    from numpyro_dgm.models import (
        ADGM,
        AVB,
        DCGAN,
        GAN,
        GMVAE,
        M1,
        M1M2,
        M2,
        SDGM,
        VAE,
        VQVAE,
        BiGAN,
        ConditionalGAN,
        ConditionalVAE,
        ConvVAE,
        FlowGAN,
        HierarchicalVAE,
        InfoGAN,
        LadderVAE,
    )
    from numpyro_dgm.sequences import unroll
    from numpyro_dgm.training import Adam, NonFiniteError, Run, binarize, fit, load_run

__all__ = [
    "ADGM",
    "AVB",
    "DCGAN",
    "ELBO",
    "GAN",
    "GMVAE",
    "IWAE",
    "M1",
    "M1M2",
    "M2",
    "NLL",
    "SDGM",
    "VAE",
    "VQVAE",
    "Adam",
    "AmortizedGuide",
    "AuxiliaryGuide",
    "BiGAN",
    "CompositeGuide",
    "ConditionalGAN",
    "ConditionalVAE",
    "ConvVAE",
    "FlowGAN",
    "Guide",
    "HamiltonianGuide",
    "HierarchicalVAE",
    "ImplicitGuide",
    "InfoGAN",
    "JointGuide",
    "LadderVAE",
    "NonFiniteError",
    "Reconstruction",
    "Run",
    "binarize",
    "conditionals",
    "evaluation",
    "fit",
    "flows",
    "generate",
    "guides",
    "joints",
    "latents",
    "load_run",
    "log_weights",
    "losses",
    "mcmc",
    "models",
    "nn",
    "predict",
    "prior_predictive",
    "reconstruct",
    "sequences",
    "to_arviz",
    "training",
    "unroll",
]
