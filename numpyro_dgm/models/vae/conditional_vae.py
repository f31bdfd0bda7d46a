"""Conditional variational autoencoder:  z_n | y_n ~ prior(y_n);  x_n | z_n, y_n ~
likelihood(decoder(z_n, y_n)); q(z_n | x_n, y_n) = posterior(encoder(x_n, y_n)).

The context y_n is a label or an image; it is given, not modeled.
"""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro
from jax import Array

from dgm_core.arguments import check_counts, check_sizes, refuse
from numpyro_dgm.conditionals import Bernoulli, Conditional, DiagonalNormal, StandardNormal
from numpyro_dgm.models.parts import (
    check_conditionals,
    check_fit,
    check_network,
    features_of,
    num_data,
    outline,
)
from numpyro_dgm.nn import MLP, register, require


class ConditionalVAE(eqx.Module):
    """A variational autoencoder of x given y.

    Args:
        x_dim: the size of a datum.
        z_dim: the size of its code.
        context_shape: the number of classes of a label y or the number of entries of any other
            context.
        hidden: the sizes of the encoder's hidden layers, which the decoder has in reverse order.
        encoder: of (x, y) and decoder of (z, y), networks with an attribute `out_dim` (default MLP,
            with hidden[-1] and hidden[0] features).
        prior: of z, without context or given y (default StandardNormal(z_dim)).
        posterior: of z given the encoder's features (default DiagonalNormal(z_dim)).
        likelihood: of x given the decoder's features (default Bernoulli(x_dim)). Sites: z (z_dim,),
            x (x_dim,), in the plate "data".

    Shapes:
        x (batch, x_dim); y (batch,) integer labels, or (batch, ...) with that many entries each:
        one-hot labels, images, anything.

    Raises:
        ValueError: if a size, a conditional, the data or the context do not fit.

    References:
        Sohn, Lee & Yan (2015), NeurIPS 28.

    Example:
        >>> vae = ConditionalVAE(64, 2, 10, key=jax.random.key(0))
        >>> with numpyro.handlers.seed(rng_seed=0):
        ...     vae.model(y=jnp.arange(10)).shape
        (10, 64)
    """

    x_dim: int = eqx.field(static=True)
    z_dim: int = eqx.field(static=True)
    context_shape: tuple[int] = eqx.field(static=True)
    encoder: MLP
    decoder: MLP
    prior: Conditional
    posterior: Conditional
    likelihood: Conditional

    def __init__(
        self,
        x_dim: int,
        z_dim: int,
        context_shape: int,
        *,
        hidden: Sequence[int] = (200, 200),
        encoder: MLP | None = None,
        decoder: MLP | None = None,
        prior: Conditional | None = None,
        posterior: Conditional | None = None,
        likelihood: Conditional | None = None,
        key: Array,
    ) -> None:
        x_dim, z_dim, entries = check_counts(x_dim=x_dim, z_dim=z_dim, context_shape=context_shape)
        hidden = check_sizes("hidden", hidden)
        check_network("encoder", encoder, x_dim + entries)
        check_network("decoder", decoder, z_dim + entries)
        check_conditionals(prior=prior, posterior=posterior, likelihood=likelihood)
        keys = jax.random.split(key, 4)
        self.x_dim, self.z_dim, self.context_shape = x_dim, z_dim, (entries,)
        self.encoder = encoder or MLP(x_dim + entries, hidden, key=keys[0])
        self.decoder = decoder or MLP(z_dim + entries, hidden[::-1], key=keys[1])
        features = features_of(self.encoder), features_of(self.decoder)
        self.prior = prior or StandardNormal(z_dim)
        self.posterior = posterior or DiagonalNormal(z_dim, context_shape=features[0], key=keys[2])
        self.likelihood = likelihood or Bernoulli(x_dim, context_shape=features[1], key=keys[3])
        check_fit("prior", self.prior, (z_dim,), 0, entries)
        check_fit("posterior", self.posterior, (z_dim,), features[0])
        check_fit("likelihood", self.likelihood, (x_dim,), features[1])

    def __repr__(self) -> str:
        return outline(self)

    def model(self, x: Array | None = None, y: Array | None = None) -> Array:
        """Generate one datum for each y, or score the data x (batch, x_dim) given y."""
        context = self.context(y, x)
        prior, decoder = register("prior", self.prior), register("decoder", self.decoder)
        likelihood = register("likelihood", self.likelihood)
        with numpyro.plate("data", len(context)):
            z = numpyro.sample("z", prior(context if prior.context_shape else None))
            return numpyro.sample("x", likelihood(decoder(join(z, context))), obs=x)

    def guide(self, x: Array | None = None, y: Array | None = None) -> Array:
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

    def context(self, y: Array | None, x: Array | None = None) -> Array:
        """The context as an array (batch, entries): labels one-hot, all else flattened; checked
        against x.
        """
        if y is None:
            raise ValueError(
                "A conditional VAE needs y: labels (batch,), or an array (batch, ...)."
            )
        (entries,) = self.context_shape
        wanted = (
            "integer labels of shape (batch,), or of shape (batch, ...) with "
            f"{entries} entries each"
        )
        if not hasattr(y, "dtype") or y.ndim == 0:
            refuse("y", wanted, y)
        size = num_data(x, (self.x_dim,), len(y))
        if size != len(y):
            raise ValueError(f"x and y must have the same number of data, got {size} and {len(y)}.")
        if y.ndim == 1 and not jnp.issubdtype(y.dtype, jnp.floating):
            good = (y >= 0) & (y < entries)
            require("y", f"labels from 0 to {entries - 1}", y, good)
            y = y[:, None] == jnp.arange(entries)
        context = y.reshape(len(y), -1)
        if y.ndim < 2 or context.shape[1] != entries:
            raise ValueError(f"y must be {wanted}, got shape {y.shape} and type {y.dtype}.")
        return context.astype(jnp.result_type(float))


def join(x: Array, context: Array) -> Array:
    """The concatenation of x (*particles, batch, dim) and context (batch, entries) along the
    last dimension.
    """
    return jnp.concatenate([x, jnp.broadcast_to(context, (*x.shape[:-1], context.shape[-1]))], -1)
