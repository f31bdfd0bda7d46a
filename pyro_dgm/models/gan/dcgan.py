"""Generative adversarial network of images:  z_n ~ prior;  x_n = sigmoid(A generator(z_n) + a),
the same map in all pixels.

The generator is convolutional.  x has no density: train it by JensenShannon("x") or another term
that compares draws, whose default critic of images is convolutional too.
"""

import pyro
from torch import Tensor, nn

from dgm_core.arguments import check_counts, check_image_shape, check_sizes
from pyro_dgm.conditionals import Conditional, StandardNormal
from pyro_dgm.models.parts import (
    check_conditionals,
    check_fit,
    check_network,
    features_of,
    given_image,
    num_data,
)
from pyro_dgm.nn import ConvDecoder, Linear, register


class DCGAN(nn.Module):
    """A generative adversarial network of images with values in [0, 1].

    Train it by `fit(gan.model, None, x, loss=JensenShannon("x", regularizer=R1()))`, or any other
    loss that needs no density of x.

    Args:
        image_shape: channels, height, width.
        z_dim: the size of the latent vector.
        hidden_channels: before each transposed convolution, which doubles height and width.
        pixel_features: of a pixel before the last map.
        generator: a network to maps (pixel_features, height, width), with an attribute `out_shape`
            (default ConvDecoder).
        prior: of z (default StandardNormal(z_dim)). Sites: z (z_dim,), x (channels, height, width),
            in the plate "data".

    Shapes:
        x (batch, channels, height, width).

    Raises:
        ValueError: if a size, the generator, the prior or the data do not fit.
        NoDensityError: when a loss asks for the density of x.

    References:
        Radford, Metz and Chintala (2016), arXiv:1511.06434, here without batch normalization.

    Example:
        >>> gan = DCGAN((1, 8, 8), 4)
        >>> gan.model(size=5).shape
        torch.Size([5, 1, 8, 8])
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        z_dim: int,
        *,
        hidden_channels: tuple[int, ...] = (64, 32),
        pixel_features: int = 16,
        generator: ConvDecoder | None = None,
        prior: Conditional | None = None,
    ) -> None:
        super().__init__()
        z_dim, pixel_features = check_counts(z_dim=z_dim, pixel_features=pixel_features)
        image_shape = check_image_shape("image_shape", image_shape)
        hidden_channels = check_sizes("hidden_channels", hidden_channels, least=1)
        check_network("generator", generator, z_dim)
        check_conditionals(prior=prior)
        self.image_shape, self.z_dim = image_shape, z_dim
        self.generator = generator or ConvDecoder(
            z_dim, image_shape, hidden_channels=hidden_channels, out_channels=pixel_features
        )
        self.pixel = Linear(pixel_features, self.image_shape[0])
        self.prior = prior or StandardNormal(z_dim)
        check_fit("prior", self.prior, (z_dim,), 0)
        wanted = (pixel_features, *self.image_shape[1:])
        if features_of(self.generator) != wanted:
            raise ValueError(
                f"The generator must give maps of shape {wanted}, got {self.generator!r}."
            )

    def model(self, x: Tensor | None = None, size: int = 1) -> Tensor:
        """Generate `size` images, or as many as there are in x (batch, channels, height, width),
        which are observed.
        """
        prior, generator, pixel = (
            register("prior", self.prior),
            register("generator", self.generator),
            register("pixel", self.pixel),
        )
        with pyro.plate("data", num_data(x, self.image_shape, size)):
            z = pyro.sample("z", prior())
            h = pixel(generator(z).movedim(-3, -1))  # (*batch, height, width, channels)
            return pyro.sample("x", given_image(h.movedim(-1, -3)), obs=x)

    def guide(self, x: Tensor | None = None, size: int = 1) -> Tensor:
        """z as the prior draws it: what an engine that asks for a guide may have, where the loss
        compares x alone.
        """
        prior = register("prior", self.prior)
        with pyro.plate("data", num_data(x, self.image_shape, size)):
            return pyro.sample("z", prior())
