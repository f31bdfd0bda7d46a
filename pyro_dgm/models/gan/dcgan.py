"""Generative adversarial network of images:  z_n ~ prior;  x_n = sigmoid(A generator(z_n) + a),
the same map in all pixels.

The generator is convolutional.  x has no density: train it by JensenShannon("x") or another term
that compares draws, whose default critic of images is convolutional too.
"""

from math import prod

import pyro
import torch
from torch import Tensor, nn

from dgm_core.arguments import check_counts, check_image_shape, check_sizes
from pyro_dgm.conditionals import Conditional, StandardNormal
from pyro_dgm.models.parts import check_conditionals, check_fit, check_network, given, num_data
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
        generator: a network with an attribute `out_dim`, to pixel_features * height * width numbers
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
        if self.generator.out_dim != pixel_features * prod(self.image_shape[1:]):
            raise ValueError(
                f"The generator must give {pixel_features} numbers for each pixel of "
                f"{self.image_shape}, got {self.generator!r}."
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
            h = generator(z).unflatten(
                -1, (pixel.in_features, -1)
            )  # (*batch, pixel_features, height * width)
            image = torch.sigmoid(pixel.weight @ h + pixel.bias[:, None]).reshape(
                *z.shape[:-1], *self.image_shape
            )
            return pyro.sample("x", given(image, 3), obs=x)

    def guide(self, x: Tensor | None = None, size: int = 1) -> Tensor:
        """z as the prior draws it: what an engine that asks for a guide may have, where the loss
        compares x alone.
        """
        prior = register("prior", self.prior)
        with pyro.plate("data", num_data(x, self.image_shape, size)):
            return pyro.sample("z", prior())
