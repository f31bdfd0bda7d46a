"""Variational autoencoder of images:  z_n ~ prior;  x_n | z_n ~ likelihood(decoder(z_n));  q(z_n |
x_n) = posterior(encoder(x_n)).

Encoder and decoder are convolutional; the likelihood sees the features of its own pixel only, the
same way in all pixels.
"""

import pyro
from torch import Tensor, nn

from dgm_core.arguments import check_counts, check_image_shape, check_sizes
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
from pyro_dgm.nn import ConvDecoder, ConvEncoder, register


class ConvVAE(nn.Module):
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
        >>> vae = ConvVAE((1, 8, 8), 2)
        >>> vae.model(size=5).shape
        torch.Size([5, 1, 8, 8])
    """

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
    ) -> None:
        super().__init__()
        z_dim, features, pixel_features = check_counts(
            z_dim=z_dim, features=features, pixel_features=pixel_features
        )
        image_shape = check_image_shape("image_shape", image_shape)
        hidden_channels = check_sizes("hidden_channels", hidden_channels, least=1)
        encoder, posterior = shared_parts(prior, encoder, posterior)
        check_network("encoder", encoder)
        check_network("decoder", decoder, z_dim)
        check_conditionals(prior=prior, posterior=posterior, likelihood=likelihood)
        self.image_shape, self.z_dim = image_shape, z_dim
        reverse = hidden_channels[::-1]
        self.encoder = encoder or ConvEncoder(
            image_shape, hidden_channels=hidden_channels, out_dim=features
        )
        self.decoder = decoder or ConvDecoder(
            z_dim, image_shape, hidden_channels=reverse, out_channels=pixel_features
        )
        num_features = features_of(self.encoder), features_of(self.decoder)
        self.prior = own_prior(prior, self.image_shape, z_dim)
        self.posterior = posterior or DiagonalNormal(z_dim, context_shape=num_features[0])
        self.likelihood = likelihood or Bernoulli(self.image_shape, context_shape=num_features[1])
        check_fit("prior", self.prior, (z_dim,), 0)
        check_fit("posterior", self.posterior, (z_dim,), num_features[0])
        check_fit("likelihood", self.likelihood, self.image_shape, num_features[1])

    def model(self, x: Tensor | None = None, size: int = 1) -> Tensor:
        """Generate `size` images, or score the images x (batch, channels, height, width)."""
        prior = prior_of(self)
        decoder = register("decoder", self.decoder)
        likelihood = register("likelihood", self.likelihood)
        with pyro.plate("data", num_data(x, self.image_shape, size)):
            z = pyro.sample("z", prior)
            return pyro.sample("x", likelihood(decoder(z)), obs=x)

    def guide(self, x: Tensor | None = None, size: int = 1) -> Tensor:
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
        with pyro.plate("data", num_data(x, self.image_shape, size)):
            return pyro.sample("z", posterior(encoder(x)))
