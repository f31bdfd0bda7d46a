"""Autoencoder with two codebooks:  k_top, k_bottom ~ priors over index maps, uniform at first;
z_top, z_bottom their codes;  x ~ likelihood(decoder(expand(z_top), z_bottom));  the guide puts
z_top to top(h), h = encoder(x), and z_bottom to mix(h, expand(z_top)).

The map of z_top has half the height and width of that of z_bottom: global things, and details that
are chosen given them.
"""

from collections.abc import Sequence
from math import prod

import pyro
import torch
from torch import Tensor, nn

from dgm_core.arguments import check_counts, check_image_shape, check_sizes
from dgm_core.quantization import check_encoder
from pyro_dgm.conditionals import Bernoulli, Conditional, VectorQuantizer
from pyro_dgm.models.parts import check_conditionals, check_fit, num_data
from pyro_dgm.nn import ConvDecoder, ConvEncoder, Linear, register
from pyro_dgm.nn.convolution import by_pixel

__all__ = ["VQVAE2"]


class VQVAE2(nn.Module):
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
        >>> vae = VQVAE2((1, 8, 8), 4, 16, hidden=(8,))
        >>> vae.top_quantizer.positions, vae.bottom_quantizer.positions
        ((2, 2), (4, 4))
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        code_dim: int = 16,
        num_codes: int = 128,
        *,
        hidden: Sequence[int] = (32, 64),
        pixel_features: int = 16,
        likelihood: Conditional | None = None,
    ) -> None:
        super().__init__()
        code_dim, num_codes, pixel_features = check_counts(
            code_dim=code_dim, num_codes=num_codes, pixel_features=pixel_features
        )
        self.image_shape = check_image_shape("image_shape", image_shape)
        hidden = check_sizes("hidden", hidden, least=1)
        check_conditionals(likelihood=likelihood)
        wide = hidden[-1]
        self.encoder = ConvEncoder(self.image_shape, hidden_channels=hidden, out_channels=wide)
        below = check_encoder(self.encoder)
        self.top = ConvEncoder(below, hidden_channels=(wide,), out_channels=code_dim)
        above = check_encoder(self.top)
        self.expand = ConvDecoder(above, below, hidden_channels=(wide,), out_channels=code_dim)
        self.mix = Linear(wide + code_dim, code_dim)
        self.decoder = ConvDecoder(
            (2 * code_dim, *below[1:]),
            self.image_shape,
            hidden_channels=hidden[::-1],
            out_channels=pixel_features,
        )
        self.top_quantizer = VectorQuantizer(above, num_codes, restart=0.1)
        self.bottom_quantizer = VectorQuantizer((code_dim, *below[1:]), num_codes, restart=0.1)
        features = self.decoder.out_shape
        self.likelihood = likelihood or Bernoulli(self.image_shape, context_shape=features)
        check_fit("likelihood", self.likelihood, self.image_shape, features)

    @property
    def num_positions(self) -> int:
        """The codes of an image, at both levels."""
        return prod(self.top_quantizer.positions) + prod(self.bottom_quantizer.positions)

    def model(self, x: Tensor | None = None, size: int = 1) -> Tensor:
        """Generate `size` images, or score the images x (batch, channels, height, width)."""
        top = register("top_quantizer", self.top_quantizer)
        bottom = register("bottom_quantizer", self.bottom_quantizer)
        expand, decoder = register("expand", self.expand), register("decoder", self.decoder)
        likelihood = register("likelihood", self.likelihood)
        with pyro.plate("data", num_data(x, self.image_shape, size)):
            z_top = pyro.sample("z_top", top.prior())
            z_bottom = pyro.sample("z_bottom", bottom.prior())
            features = decoder(torch.cat([expand(z_top), z_bottom], -3))
            return pyro.sample("x", likelihood(features), obs=x)

    def guide(self, x: Tensor | None = None, size: int = 1) -> Tensor:
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
        with pyro.plate("data", num_data(x, self.image_shape, size)):
            h = encoder(x)
            z_top = pyro.sample("z_top", top(above(h)))
            context = expand(z_top)
            h = h.expand(*context.shape[:-3], *h.shape[-3:])
            h = by_pixel(mix, torch.cat([h, context], -3))
            return pyro.sample("z_bottom", bottom(h))
