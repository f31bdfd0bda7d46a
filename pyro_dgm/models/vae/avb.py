"""Adversarial variational Bayes:  a VAE whose guide is a network without a density,  q(z_n | x_n):
z_n = g(eps_n, encoder(x_n)),  eps_n ~ Normal(0, I).
"""

from collections.abc import Sequence

from dgm_core.arguments import check_count, check_counts, check_sizes
from pyro_dgm.conditionals import Conditional, Generator
from pyro_dgm.models.parts import check_conditionals, check_network, features_of, shared_parts
from pyro_dgm.models.vae.vae import VAE
from pyro_dgm.nn import MLP


class AVB(VAE):
    """A variational autoencoder with an implicit guide (Mescheder et al. 2017).

    Trained by `RatioELBO()`; with `RatioELBO(contrast="adaptive", num_particles=...)` the critic's
    task is smaller.

    Args:
        x_dim: the size of a datum.
        z_dim: the size of its code.
        noise_dim: of eps (default: z_dim).
        noise_hidden: the layers of g; all others as in VAE (posterior: default Generator(z_dim,
            context_shape=...), any conditional will do). Sites: z (z_dim,), x (x_dim,), in the
            plate "data".

    Shapes:
        x (batch, x_dim).

    Raises:
        ValueError: if a size, a conditional or the data do not fit.

    References:
        Mescheder, Nowozin and Geiger (2017), arXiv:1701.04722.

    Example:
        >>> AVB(64, 2, hidden=(100,)).guide(torch.zeros(5, 64)).shape
        torch.Size([5, 2])
    """

    def __init__(
        self,
        x_dim: int,
        z_dim: int,
        *,
        noise_dim: int | None = None,
        noise_hidden: Sequence[int] = (200,),
        hidden: Sequence[int] = (200, 200),
        encoder: MLP | None = None,
        decoder: MLP | None = None,
        prior: Conditional | None = None,
        posterior: Conditional | None = None,
        likelihood: Conditional | None = None,
    ) -> None:
        x_dim, z_dim = check_counts(x_dim=x_dim, z_dim=z_dim)
        hidden = check_sizes("hidden", hidden)
        noise_hidden = check_sizes("noise_hidden", noise_hidden)
        encoder, posterior = shared_parts(prior, encoder, posterior)
        check_network("encoder", encoder, x_dim)
        check_conditionals(posterior=posterior)
        if noise_dim is not None:
            noise_dim = check_count("noise_dim", noise_dim)
        encoder = encoder or MLP(x_dim, hidden)
        posterior = posterior or Generator(
            z_dim, noise_dim=noise_dim, hidden=noise_hidden, context_shape=features_of(encoder)
        )
        super().__init__(
            x_dim,
            z_dim,
            hidden=hidden,
            encoder=encoder,
            decoder=decoder,
            prior=prior,
            posterior=posterior,
            likelihood=likelihood,
        )
