"""Conditional variational autoencoder:  z_n | y_n ~ prior(y_n);  x_n | z_n, y_n ~
likelihood(decoder(z_n, y_n)); q(z_n | x_n, y_n) = posterior(encoder(x_n, y_n)).

The context y_n is a label, an image or any other array; it is given, not modeled.
"""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro
from jax import Array

from dgm_core.arguments import check_counts, check_sizes, refuse
from dgm_core.contexts import ContextShape, check_context_shape, context_size
from numpyro_dgm.conditionals import Bernoulli, Conditional, DiagonalNormal, StandardNormal
from numpyro_dgm.models.parts import (
    check_conditionals,
    check_fit,
    check_network,
    features_of,
    outline,
    paired,
)
from numpyro_dgm.nn import MLP, register
from numpyro_dgm.nn.contexts import flat


class ConditionalVAE(eqx.Module):
    """A variational autoencoder of x given y.

    Args:
        x_dim: the size of a datum.
        z_dim: the size of its code.
        context_shape: of y: `Labels(num_classes)`, a size, a shape, or a tuple of these.
        hidden: the sizes of the encoder's hidden layers, which the decoder has in reverse order.
        encoder: of (x, y) and decoder of (z, y), networks with an attribute `out_dim` (default MLP,
            with hidden[-1] and hidden[0] features).
        prior: of z, without context or given y (default StandardNormal(z_dim)).
        posterior: of z given the encoder's features (default DiagonalNormal(z_dim)).
        likelihood: of x given the decoder's features (default Bernoulli(x_dim)). Sites: z (z_dim,),
            x (x_dim,), in the plate "data".

    Shapes:
        x (batch, x_dim); y (batch, *context_shape), labels (batch,), several a tuple of arrays.

    Raises:
        ValueError: if a size, a conditional, the data or the context do not fit.

    References:
        Sohn, Lee & Yan (2015), NeurIPS 28.

    Example:
        >>> from numpyro_dgm.conditionals import Labels
        >>> vae = ConditionalVAE(64, 2, Labels(10), key=jax.random.key(0))
        >>> with numpyro.handlers.seed(rng_seed=0):
        ...     vae.model(y=jnp.arange(10)).shape
        (10, 64)
    """

    x_dim: int = eqx.field(static=True)
    z_dim: int = eqx.field(static=True)
    context_shape: tuple[Any, ...] = eqx.field(static=True)
    encoder: MLP
    decoder: MLP
    prior: Conditional
    posterior: Conditional
    likelihood: Conditional

    def __init__(
        self,
        x_dim: int,
        z_dim: int,
        context_shape: ContextShape,
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
        shape = check_context_shape("context_shape", context_shape)
        entries = context_size(shape) or refuse("context_shape", "the shape of y", context_shape)
        hidden = check_sizes("hidden", hidden)
        check_network("encoder", encoder, x_dim + entries)
        check_network("decoder", decoder, z_dim + entries)
        check_conditionals(prior=prior, posterior=posterior, likelihood=likelihood)
        keys = jax.random.split(key, 4)
        self.x_dim, self.z_dim, self.context_shape = x_dim, z_dim, shape
        self.encoder = encoder or MLP(x_dim + entries, hidden, key=keys[0])
        self.decoder = decoder or MLP(z_dim + entries, hidden[::-1], key=keys[1])
        features = features_of(self.encoder), features_of(self.decoder)
        self.prior = prior or StandardNormal(z_dim)
        self.posterior = posterior or DiagonalNormal(z_dim, context_shape=features[0], key=keys[2])
        self.likelihood = likelihood or Bernoulli(x_dim, context_shape=features[1], key=keys[3])
        check_fit("prior", self.prior, (z_dim,), 0, shape)
        check_fit("posterior", self.posterior, (z_dim,), features[0])
        check_fit("likelihood", self.likelihood, (x_dim,), features[1])

    def __repr__(self) -> str:
        return outline(self)

    def model(self, x: Array | None = None, y: Any = None) -> Array:
        """Generate one datum for each y, or score the data x (batch, x_dim) given y."""
        context = self.context(y, x)
        prior, decoder = register("prior", self.prior), register("decoder", self.decoder)
        likelihood = register("likelihood", self.likelihood)
        with numpyro.plate("data", len(context)):
            z = numpyro.sample("z", prior(y if prior.context_shape else None))
            return numpyro.sample("x", likelihood(decoder(join(z, context))), obs=x)

    def guide(self, x: Array | None = None, y: Any = None) -> Array:
        """Infer z from the data x (batch, x_dim) given y."""
        if x is None:
            raise ValueError(
                f"The guide infers z from data: call it with x of shape (batch, {self.x_dim})."
            )
        context = self.context(y, x)
        encoder, posterior = (
            register("encoder", self.encoder),
            register("posterior", self.posterior),
        )
        with numpyro.plate("data", len(context)):
            return numpyro.sample("z", posterior(encoder(join(x, context))))

    def context(self, y: Any, x: Array | None = None) -> Array:
        """y as a vector (batch, entries), labels one-hot; checked against x."""
        return flat(paired(y, self.context_shape, x, (self.x_dim,)), self.context_shape)


def join(x: Array, context: Array) -> Array:
    """The concatenation of x (*particles, batch, dim) and context (batch, entries) along the
    last dimension.
    """
    return jnp.concatenate([x, jnp.broadcast_to(context, (*x.shape[:-1], context.shape[-1]))], -1)
