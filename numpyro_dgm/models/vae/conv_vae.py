"""Variational autoencoder of images:  z_n ~ prior;  x_n | z_n ~ likelihood(decoder(z_n));  q(z_n |
x_n) = posterior(encoder(x_n)).

Encoder and decoder are convolutional; the likelihood sees the features of its own pixel only, the
same way in all pixels.
"""

import equinox as eqx
import jax
import numpyro
from jax import Array

from dgm_core.arguments import check_counts, check_image_shape, check_sizes
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
from numpyro_dgm.nn import ConvDecoder, ConvEncoder, register


class ConvVAE(eqx.Module):
    """A variational autoencoder of images with convolutional networks.

    Args:
        image_shape: channels, height, width.
        z_dim: the size of its code.
        hidden_channels: of the encoder's convolutions, each of which halves height and width, and
            which the decoder has in reverse order.
        features: of an image in the encoder.
        pixel_features: of a pixel in the decoder.
        encoder, decoder: networks with an attribute `out_dim`, or `out_shape` of maps (default
            ConvEncoder and ConvDecoder).
        prior: of z (default StandardNormal(z_dim)); a VampPrior has this encoder and posterior, or
            brings its own.
        posterior: of z given the encoder's features (default DiagonalNormal(z_dim)).
        likelihood: of x given the decoder's map (pixel_features, height, width) (default
            Bernoulli(image_shape)). Sites: z (z_dim,), x (channels, height, width),
            in the plate "data".

    Shapes:
        x (batch, channels, height, width).

    Raises:
        ValueError: if a size, a conditional or the data do not fit.

    References:
        Kingma & Welling (2014), arXiv:1312.6114.

    Example:
        >>> vae = ConvVAE((1, 8, 8), 2, key=jax.random.key(0))
        >>> with numpyro.handlers.seed(rng_seed=0):
        ...     vae.model(size=5).shape
        (5, 1, 8, 8)
    """

    image_shape: tuple[int, ...] = eqx.field(static=True)
    z_dim: int = eqx.field(static=True)
    encoder: ConvEncoder
    decoder: ConvDecoder
    prior: Conditional
    posterior: Conditional
    likelihood: Conditional

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        z_dim: int,
        *,
        hidden_channels: tuple[int, ...] = (32, 64),
        features: int = 256,
        pixel_features: int = 16,
        encoder: ConvEncoder | None = None,
        decoder: ConvDecoder | None = None,
        prior: Conditional | None = None,
        posterior: Conditional | None = None,
        likelihood: Conditional | None = None,
        key: Array,
    ) -> None:
        z_dim, features, pixel_features = check_counts(
            z_dim=z_dim, features=features, pixel_features=pixel_features
        )
        image_shape = check_image_shape("image_shape", image_shape)
        hidden_channels = check_sizes("hidden_channels", hidden_channels, least=1)
        encoder, posterior = shared_parts(prior, encoder, posterior)
        check_network("encoder", encoder)
        check_network("decoder", decoder, z_dim)
        check_conditionals(prior=prior, posterior=posterior, likelihood=likelihood)
        keys = jax.random.split(key, 4)
        self.image_shape, self.z_dim = image_shape, z_dim
        reverse = hidden_channels[::-1]
        self.encoder = encoder or ConvEncoder(
            image_shape, hidden_channels=hidden_channels, out_dim=features, key=keys[0]
        )
        self.decoder = decoder or ConvDecoder(
            z_dim, image_shape, hidden_channels=reverse, out_channels=pixel_features, key=keys[1]
        )
        num_features = features_of(self.encoder), features_of(self.decoder)
        self.prior = own_prior(prior, self.image_shape, z_dim, key=jax.random.fold_in(key, 4))
        self.posterior = posterior or DiagonalNormal(
            z_dim, context_shape=num_features[0], key=keys[2]
        )
        self.likelihood = likelihood or Bernoulli(
            self.image_shape, context_shape=num_features[1], key=keys[3]
        )
        check_fit("prior", self.prior, (z_dim,), 0)
        check_fit("posterior", self.posterior, (z_dim,), num_features[0])
        check_fit("likelihood", self.likelihood, self.image_shape, num_features[1])

    def __repr__(self) -> str:
        return outline(self)

    def model(self, x: Array | None = None, size: int = 1) -> Array:
        """Generate `size` images, or score the images x (batch, channels, height, width)."""
        prior = prior_of(self)
        decoder = register("decoder", self.decoder)
        likelihood = register("likelihood", self.likelihood)
        with numpyro.plate("data", num_data(x, self.image_shape, size)):
            z = numpyro.sample("z", prior)
            return numpyro.sample("x", likelihood(decoder(z)), obs=x)

    def guide(self, x: Array | None = None, size: int = 1) -> Array:
        """Infer z from the images x (batch, channels, height, width)."""
        if x is None:
            raise ValueError(
                "The guide infers z from data: call it with x of shape (batch, "
                f"*{self.image_shape})."
            )
        encoder, posterior = (
            register("encoder", self.encoder),
            register("posterior", self.posterior),
        )
        with numpyro.plate("data", num_data(x, self.image_shape, size)):
            return numpyro.sample("z", posterior(encoder(x)))
