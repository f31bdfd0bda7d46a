"""Variational autoencoder:  z_n ~ prior;  x_n | z_n ~ likelihood(decoder(z_n));  q(z_n | x_n) =
posterior(encoder(x_n)).

By default  z_n ~ Normal(0, I),  x_n | z_n ~ Bernoulli(logits = A decoder(z_n) + a),  q(z_n | x_n) =
Normal(mu(x_n), diag(sigma(x_n)^2)).
"""

from collections.abc import Sequence

import pyro
from torch import Tensor, nn

from dgm_core.arguments import check_counts, check_sizes
from pyro_dgm.conditionals import Bernoulli, Conditional, DiagonalNormal
from pyro_dgm.models.parts import (
    check_conditionals,
    check_fit,
    check_network,
    features_of,
    num_data,
    own_prior,
    prior_of,
    shared_parts,
)
from pyro_dgm.nn import MLP, register


class VAE(nn.Module):
    """A variational autoencoder of vectors (Kingma & Welling 2014).

    Args:
        x_dim: the size of a datum.
        z_dim: the size of its code.
        hidden: the sizes of the encoder's hidden layers, which the decoder has in reverse order
            (empty: a linear VAE).
        encoder, decoder: networks with an attribute `out_dim`, the number of their features
            (default MLP, with hidden[-1] and hidden[0] features).
        prior: of z (default StandardNormal(z_dim)); a VampPrior has this encoder and posterior, or
            brings its own.
        posterior: of z given the encoder's features (default DiagonalNormal(z_dim)).
        likelihood: of x given the decoder's features (default Bernoulli(x_dim)). Sites: z (z_dim,),
            x (x_dim,), in the plate "data".

    Shapes:
        x (batch, x_dim).

    Raises:
        ValueError: if a size, a conditional or the data do not fit.

    References:
        Kingma & Welling (2014), arXiv:1312.6114.

    Example:
        >>> vae = VAE(64, 2, hidden=(100,))
        >>> vae.model(size=5).shape
        torch.Size([5, 64])
    """

    def __init__(
        self,
        x_dim: int,
        z_dim: int,
        *,
        hidden: Sequence[int] = (200, 200),
        encoder: MLP | None = None,
        decoder: MLP | None = None,
        prior: Conditional | None = None,
        posterior: Conditional | None = None,
        likelihood: Conditional | None = None,
    ) -> None:
        super().__init__()
        x_dim, z_dim = check_counts(x_dim=x_dim, z_dim=z_dim)
        hidden = check_sizes("hidden", hidden)
        encoder, posterior = shared_parts(prior, encoder, posterior)
        check_network("encoder", encoder, x_dim)
        check_network("decoder", decoder, z_dim)
        check_conditionals(prior=prior, posterior=posterior, likelihood=likelihood)
        self.x_dim, self.z_dim = x_dim, z_dim
        self.encoder = encoder or MLP(x_dim, hidden)
        self.decoder = decoder or MLP(z_dim, hidden[::-1])
        features = features_of(self.encoder), features_of(self.decoder)
        self.prior = own_prior(prior, (x_dim,), z_dim)
        self.posterior = posterior or DiagonalNormal(z_dim, context_shape=features[0])
        self.likelihood = likelihood or Bernoulli(x_dim, context_shape=features[1])
        check_fit("prior", self.prior, (z_dim,), 0)
        check_fit("posterior", self.posterior, (z_dim,), features[0])
        check_fit("likelihood", self.likelihood, (x_dim,), features[1])

    def model(self, x: Tensor | None = None, size: int = 1) -> Tensor:
        """Generate `size` data, or score the data x (batch, x_dim)."""
        prior = prior_of(self)
        decoder = register("decoder", self.decoder)
        likelihood = register("likelihood", self.likelihood)
        with pyro.plate("data", num_data(x, (self.x_dim,), size)):
            z = pyro.sample("z", prior)
            return pyro.sample("x", likelihood(decoder(z)), obs=x)

    def guide(self, x: Tensor | None = None, size: int = 1) -> Tensor:
        """Infer z from the data x (batch, x_dim)."""
        if x is None:
            raise ValueError(
                f"The guide infers z from data: call it with x of shape (batch, {self.x_dim})."
            )
        encoder, posterior = (
            register("encoder", self.encoder),
            register("posterior", self.posterior),
        )
        with pyro.plate("data", num_data(x, (self.x_dim,), size)):
            return pyro.sample("z", posterior(encoder(x)))
