"""Variational autoencoder:  z_n ~ prior;  x_n | z_n ~ likelihood(decoder(z_n));  q(z_n | x_n) =
posterior(encoder(x_n)).

By default  z_n ~ Normal(0, I),  x_n | z_n ~ Bernoulli(logits = A decoder(z_n) + a),  q(z_n | x_n) =
Normal(mu(x_n), diag(sigma(x_n)^2)).
"""

from collections.abc import Sequence

import equinox as eqx
import jax
import numpyro
from jax import Array

from dgm_core.arguments import check_counts, check_sizes
from numpyro_dgm.conditionals import Bernoulli, Conditional, DiagonalNormal
from numpyro_dgm.models.parts import (
    check_conditionals,
    check_fit,
    check_network,
    features_of,
    num_data,
    outline,
    own_prior,
    prior_of,
    shared_parts,
)
from numpyro_dgm.nn import MLP, register


class VAE(eqx.Module):
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
        >>> vae = VAE(64, 2, hidden=(100,), key=jax.random.key(0))
        >>> with numpyro.handlers.seed(rng_seed=0):
        ...     vae.model(size=5).shape
        (5, 64)
    """

    x_dim: int = eqx.field(static=True)
    z_dim: int = eqx.field(static=True)
    encoder: MLP
    decoder: MLP
    prior: Conditional
    posterior: Conditional
    likelihood: Conditional

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
        key: Array,
    ) -> None:
        x_dim, z_dim = check_counts(x_dim=x_dim, z_dim=z_dim)
        hidden = check_sizes("hidden", hidden)
        encoder, posterior = shared_parts(prior, encoder, posterior)
        check_network("encoder", encoder, x_dim)
        check_network("decoder", decoder, z_dim)
        check_conditionals(prior=prior, posterior=posterior, likelihood=likelihood)
        keys = jax.random.split(key, 4)
        self.x_dim, self.z_dim = x_dim, z_dim
        self.encoder = encoder or MLP(x_dim, hidden, key=keys[0])
        self.decoder = decoder or MLP(z_dim, hidden[::-1], key=keys[1])
        features = features_of(self.encoder), features_of(self.decoder)
        self.prior = own_prior(prior, (x_dim,), z_dim, key=jax.random.fold_in(key, 4))
        self.posterior = posterior or DiagonalNormal(z_dim, context_shape=features[0], key=keys[2])
        self.likelihood = likelihood or Bernoulli(x_dim, context_shape=features[1], key=keys[3])
        check_fit("prior", self.prior, (z_dim,), 0)
        check_fit("posterior", self.posterior, (z_dim,), features[0])
        check_fit("likelihood", self.likelihood, (x_dim,), features[1])

    def __repr__(self) -> str:
        return outline(self)

    def model(self, x: Array | None = None, size: int = 1) -> Array:
        """Generate `size` data, or score the data x (batch, x_dim)."""
        prior = prior_of(self)
        decoder = register("decoder", self.decoder)
        likelihood = register("likelihood", self.likelihood)
        with numpyro.plate("data", num_data(x, (self.x_dim,), size)):
            z = numpyro.sample("z", prior)
            return numpyro.sample("x", likelihood(decoder(z)), obs=x)

    def guide(self, x: Array | None = None, size: int = 1) -> Array:
        """Infer z from the data x (batch, x_dim)."""
        if x is None:
            raise ValueError(
                f"The guide infers z from data: call it with x of shape (batch, {self.x_dim})."
            )
        encoder, posterior = (
            register("encoder", self.encoder),
            register("posterior", self.posterior),
        )
        with numpyro.plate("data", num_data(x, (self.x_dim,), size)):
            return numpyro.sample("z", posterior(encoder(x)))
