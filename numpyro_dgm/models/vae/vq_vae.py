"""Autoencoder with a codebook:  k_n ~ prior over index maps, uniform at first;  z_n = e_k;
x_n | z_n ~ likelihood(decoder(z_n));  q(z_n | x_n) the codes nearest to encoder(x_n).

The latent site holds the codes themselves, arrays of vectors, of which log p is that of their
numbers: log p(z) = -positions ln K under the uniform prior, and log q(z | x) = 0, so that the bound
is log p(x | z) - positions ln K, a bound on log p(x). Its gradient passes straight through the
codes to the encoder.
"""

from collections.abc import Sequence
from math import prod
from typing import Any

import equinox as eqx
import jax
import numpyro
from jax import Array

from dgm_core.arguments import (
    check_counts,
    check_image_shape,
    check_instance,
    check_shape,
    check_sizes,
)
from dgm_core.quantization import check_encoder, check_index_prior
from numpyro_dgm.conditionals import Bernoulli, Conditional, Quantizer, VectorQuantizer
from numpyro_dgm.models.parts import (
    check_conditionals,
    check_fit,
    check_network,
    features_of,
    num_data,
    outline,
)
from numpyro_dgm.nn import MLP, ConvDecoder, ConvEncoder, register

__all__ = ["VQVAE"]


class VQVAE(eqx.Module):
    """A vector-quantized autoencoder of images, or of vectors (van den Oord et al. 2017).

    Train it by `ELBO() + P * Commitment("z", 0.25)`, P the number of entries of x; then
    `fit_prior(run, x, GatedPixelCNN((1, *vae.quantizer.positions), partial(Categorical,
    num_classes=K)))` learns where the codes are, and the bound and the samples improve.

    Args:
        x_dim: the shape of an image (channels, height, width), or the size of a vector.
        code_dim: D of a code.
        num_codes: K.
        positions: codes of a vector; an image has one for each pixel of the encoder's map.
        hidden: channels of the encoder's convolutions, each of which halves height and width, or
            sizes of the layers of a vector's encoder (default (32, 64), (200, 200)); the decoder
            has them in reverse order.
        pixel_features: of a pixel in the decoder of images.
        encoder, decoder: networks with an attribute `out_dim`, or `out_shape` of maps.
        quantizer: of the encoder's map or vectors (default a VectorQuantizer with decay 0.99 and
            restart 0.1).
        prior: of index maps, with an entry for each position (default uniform).
        likelihood: of x given the decoder's features (default Bernoulli). Sites: z (code_dim,
            *positions), x, in the plate "data".

    Shapes:
        x (batch, *x_dim).

    Raises:
        ValueError: if a size, a conditional or the data do not fit.

    References:
        van den Oord, Vinyals & Kavukcuoglu (2017), arXiv:1711.00937.

    Example:
        >>> vae = VQVAE((1, 8, 8), 4, 16, hidden=(8, 8), key=jax.random.key(0))
        >>> with numpyro.handlers.seed(rng_seed=0):
        ...     vae.model(size=5).shape, vae.quantizer.positions
        ((5, 1, 8, 8), (2, 2))
    """

    x_shape: tuple[int, ...] = eqx.field(static=True)
    encoder: Any
    decoder: Any
    quantizer: Quantizer
    prior: Any
    likelihood: Conditional

    def __init__(
        self,
        x_dim: int | tuple[int, ...],
        code_dim: int = 16,
        num_codes: int = 128,
        *,
        positions: int = 1,
        hidden: Sequence[int] | None = None,
        pixel_features: int = 16,
        encoder: Any = None,
        decoder: Any = None,
        quantizer: Quantizer | None = None,
        prior: Conditional | None = None,
        likelihood: Conditional | None = None,
        key: Array,
    ) -> None:
        keys = jax.random.split(key, 4)
        code_dim, num_codes, positions, pixel_features = check_counts(
            code_dim=code_dim,
            num_codes=num_codes,
            positions=positions,
            pixel_features=pixel_features,
        )
        shape: tuple[int, ...]
        self.x_shape = check_shape("x_dim", x_dim)
        is_image = len(self.x_shape) == 3
        usual = (32, 64) if is_image else (200, 200)
        hidden = check_sizes("hidden", usual if hidden is None else hidden, least=1)
        check_network("encoder", encoder)
        check_network("decoder", decoder)
        check_conditionals(prior=prior, likelihood=likelihood)
        if quantizer is not None:
            what = "a quantizer such as VectorQuantizer((16, 7, 7))"
            code_dim = check_instance("quantizer", quantizer, Quantizer, what).event_shape[0]
            positions = prod(quantizer.positions)
        if is_image:
            image = check_image_shape("x_dim", x_dim)
            self.encoder = encoder or ConvEncoder(
                image, hidden_channels=hidden, out_channels=code_dim, key=keys[0]
            )
            shape = map_shape = check_encoder(self.encoder)
            self.decoder = decoder or ConvDecoder(
                map_shape,
                image,
                hidden_channels=hidden[::-1],
                out_channels=pixel_features,
                key=keys[1],
            )
        else:
            shape = (code_dim,) if positions == 1 else (code_dim, positions)
            size = prod(self.x_shape)
            self.encoder = encoder or MLP(size, hidden, positions * code_dim, key=keys[0])
            self.decoder = decoder or MLP(positions * code_dim, hidden[::-1], key=keys[1])
        self.quantizer = quantizer or VectorQuantizer(shape, num_codes, restart=0.1, key=keys[2])
        check_fit("quantizer", self.quantizer, shape, shape)
        self.prior = prior
        check_index_prior(prior, self.quantizer)
        features = features_of(self.decoder)
        self.likelihood = likelihood or Bernoulli(self.x_shape, context_shape=features, key=keys[3])
        check_fit("likelihood", self.likelihood, self.x_shape, features)

    def __repr__(self) -> str:
        return outline(self)

    def model(self, x: Array | None = None, size: int = 1) -> Array:
        """Generate `size` data, or score the data x (batch, *x_dim)."""
        quantizer = register("quantizer", self.quantizer)
        prior = None if self.prior is None else register("prior", self.prior)()
        decoder = register("decoder", self.decoder)
        likelihood = register("likelihood", self.likelihood)
        with numpyro.plate("data", num_data(x, self.x_shape, size)):
            z = numpyro.sample("z", quantizer.prior(prior))
            return numpyro.sample("x", likelihood(decoder(self._flat(z))), obs=x)

    def guide(self, x: Array | None = None, size: int = 1) -> Array:
        """The codes of the data x (batch, *x_dim)."""
        if x is None:
            raise ValueError(
                "The guide infers z from data: call it with x of shape (batch, "
                f"{', '.join(map(str, self.x_shape))})."
            )
        encoder = register("encoder", self.encoder)
        quantizer = register("quantizer", self.quantizer)
        with numpyro.plate("data", num_data(x, self.x_shape, size)):
            code = encoder(x).reshape(len(x), *quantizer.event_shape)
            return numpyro.sample("z", quantizer(code))

    def _flat(self, z: Array) -> Array:
        """What the decoder sees: maps of images, else a vector."""
        if len(self.x_shape) == 3:
            return z
        return z.reshape(*z.shape[: z.ndim - len(self.quantizer.event_shape)], -1)
