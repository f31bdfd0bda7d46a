"""Autoencoder with two codebooks:  k_top, k_bottom ~ priors over index maps, uniform at first;
z_top, z_bottom their codes;  x ~ likelihood(decoder(expand(z_top), z_bottom));  the guide puts
z_top to top(h), h = encoder(x), and z_bottom to mix(h, expand(z_top)).

The map of z_top has half the height and width of that of z_bottom: global things, and details that
are chosen given them.
"""

from collections.abc import Sequence
from math import prod

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro
from jax import Array

from dgm_core.arguments import check_counts, check_image_shape, check_sizes
from dgm_core.quantization import check_encoder
from numpyro_dgm.conditionals import Bernoulli, Conditional, VectorQuantizer
from numpyro_dgm.models.parts import check_conditionals, check_fit, num_data, outline
from numpyro_dgm.nn import ConvDecoder, ConvEncoder, Linear, register
from numpyro_dgm.nn.convolution import by_pixel

__all__ = ["VQVAE2"]


class VQVAE2(eqx.Module):
    """A vector-quantized autoencoder of images with two levels (Razavi et al. 2019).

    Trained by `ELBO() + P * (Commitment("z_top") + Commitment("z_bottom"))`, P the number of
    pixels; the bound is log p(x | z) - (positions of both) ln K. `fit_prior` fits a prior to each
    level afterwards: `site="z_top"`, and `site="z_bottom", given="z_top"` of a conditional with
    context_shape (code_dim, *bottom positions), such as a GatedPixelCNN.

    Args:
        image_shape: channels, height, width.
        code_dim: D of a code, at both levels.
        num_codes: K, at both levels.
        hidden: channels of the encoder's convolutions, each of which halves height and width; the
            top level has one more.
        pixel_features: of a pixel in the decoder.
        likelihood: of x given the decoder's map (default Bernoulli). Sites: z_top and z_bottom
            (code_dim, *positions), x, in the plate "data".

    Shapes:
        x (batch, channels, height, width).

    Raises:
        ValueError: if a size, a conditional or the data do not fit.

    References:
        Razavi, van den Oord & Vinyals (2019), arXiv:1906.00446, here with a lower prior that
        sees the upper codes repeated, not through a network of its own.

    Example:
        >>> vae = VQVAE2((1, 8, 8), 4, 16, hidden=(8,), key=jax.random.key(0))
        >>> vae.top_quantizer.positions, vae.bottom_quantizer.positions
        ((2, 2), (4, 4))
    """

    image_shape: tuple[int, int, int] = eqx.field(static=True)
    encoder: ConvEncoder
    top: ConvEncoder
    expand: ConvDecoder
    mix: Linear
    decoder: ConvDecoder
    top_quantizer: VectorQuantizer
    bottom_quantizer: VectorQuantizer
    likelihood: Conditional

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        code_dim: int = 16,
        num_codes: int = 128,
        *,
        hidden: Sequence[int] = (32, 64),
        pixel_features: int = 16,
        likelihood: Conditional | None = None,
        key: Array,
    ) -> None:
        keys = jax.random.split(key, 8)
        code_dim, num_codes, pixel_features = check_counts(
            code_dim=code_dim, num_codes=num_codes, pixel_features=pixel_features
        )
        self.image_shape = check_image_shape("image_shape", image_shape)
        hidden = check_sizes("hidden", hidden, least=1)
        check_conditionals(likelihood=likelihood)
        wide = hidden[-1]
        self.encoder = ConvEncoder(
            self.image_shape, hidden_channels=hidden, out_channels=wide, key=keys[0]
        )
        below = check_encoder(self.encoder)
        self.top = ConvEncoder(
            below,
            hidden_channels=(wide,),
            out_channels=code_dim,
            key=keys[1],
        )
        above = check_encoder(self.top)
        self.expand = ConvDecoder(
            above, below, hidden_channels=(wide,), out_channels=code_dim, key=keys[2]
        )
        self.mix = Linear(wide + code_dim, code_dim, key=keys[3])
        self.decoder = ConvDecoder(
            (2 * code_dim, *below[1:]),
            self.image_shape,
            hidden_channels=hidden[::-1],
            out_channels=pixel_features,
            key=keys[4],
        )
        self.top_quantizer = VectorQuantizer(above, num_codes, restart=0.1, key=keys[5])
        self.bottom_quantizer = VectorQuantizer(
            (code_dim, *below[1:]), num_codes, restart=0.1, key=keys[6]
        )
        features = self.decoder.out_shape
        self.likelihood = likelihood or Bernoulli(
            self.image_shape, context_shape=features, key=keys[7]
        )
        check_fit("likelihood", self.likelihood, self.image_shape, features)

    def __repr__(self) -> str:
        return outline(self)

    @property
    def num_positions(self) -> int:
        """The codes of an image, at both levels."""
        return prod(self.top_quantizer.positions) + prod(self.bottom_quantizer.positions)

    def model(self, x: Array | None = None, size: int = 1) -> Array:
        """Generate `size` images, or score the images x (batch, channels, height, width)."""
        top = register("top_quantizer", self.top_quantizer)
        bottom = register("bottom_quantizer", self.bottom_quantizer)
        expand, decoder = register("expand", self.expand), register("decoder", self.decoder)
        likelihood = register("likelihood", self.likelihood)
        with numpyro.plate("data", num_data(x, self.image_shape, size)):
            z_top = numpyro.sample("z_top", top.prior())
            z_bottom = numpyro.sample("z_bottom", bottom.prior())
            features = decoder(jnp.concatenate([expand(z_top), z_bottom], -3))
            return numpyro.sample("x", likelihood(features), obs=x)

    def guide(self, x: Array | None = None, size: int = 1) -> Array:
        """The codes of the images x (batch, channels, height, width)."""
        if x is None:
            raise ValueError(
                "The guide infers z_top and z_bottom from data: call it with x of shape (batch, "
                f"*{self.image_shape})."
            )
        encoder, above = register("encoder", self.encoder), register("top", self.top)
        expand, mix = register("expand", self.expand), register("mix", self.mix)
        top = register("top_quantizer", self.top_quantizer)
        bottom = register("bottom_quantizer", self.bottom_quantizer)
        with numpyro.plate("data", num_data(x, self.image_shape, size)):
            h = encoder(x)
            z_top = numpyro.sample("z_top", top(above(h)))
            context = expand(z_top)
            h = jnp.broadcast_to(h, (*context.shape[:-3], *h.shape[-3:]))
            return numpyro.sample(
                "z_bottom", bottom(by_pixel(mix, jnp.concatenate([h, context], -3)))
            )
