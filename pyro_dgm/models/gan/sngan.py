"""Generators of residual blocks:  z_n ~ prior;  x_n = sigmoid(generator(z_n)).

SN-GAN puts spectral norms into the critic, SAGAN into both, with attention between pixels.
"""

from collections.abc import Sequence

import pyro
from torch import Tensor, nn

from dgm_core.arguments import check_count
from pyro_dgm.conditionals import Conditional, StandardNormal
from pyro_dgm.models.parts import check_conditionals, check_fit, check_images, given_image, num_data
from pyro_dgm.nn import ResidualGenerator, register


class SNGAN(nn.Module):
    """A generative adversarial network of images with values in [0, 1], of residual blocks with
    batch normalization.

    Train it by `fit(gan.model, None, x, loss=Hinge("x", ResidualCritic(image_shape)))`, or any
    other loss that needs no density of x.

    Args:
        image_shape: channels, height and width, divisible by 2 for each block.
        z_dim: the size of the latent vector.
        hidden_channels: of the default generator, before each block.
        generator: a network to images, with an attribute `out_shape` (default ResidualGenerator).
        prior: of z (default StandardNormal(z_dim)). Sites: z (z_dim,), x (channels, height, width),
            in the plate "data".

    Shapes:
        x (batch, channels, height, width).

    Raises:
        ValueError: if a size, the generator, the prior or the data do not fit.
        NoDensityError: when a loss asks for the density of x.

    References:
        Miyato et al. (2018), arXiv:1802.05957.

    Example:
        >>> gan = SNGAN((1, 4, 4), 2, hidden_channels=(3,))
        >>> gan.model(size=5).shape
        torch.Size([5, 1, 4, 4])
    """

    attention, spectral_norm = False, "none"  # of the default generator

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        z_dim: int,
        *,
        hidden_channels: Sequence[int] = (64, 32),
        generator: ResidualGenerator | None = None,
        prior: Conditional | None = None,
    ) -> None:
        super().__init__()
        self.z_dim = check_count("z_dim", z_dim)
        check_conditionals(prior=prior)
        self.image_shape = check_images(generator, image_shape, z_dim)
        self.generator = generator or ResidualGenerator(
            z_dim,
            image_shape,
            hidden_channels=hidden_channels,
            attention=self.attention,
            spectral_norm=self.spectral_norm,
        )
        self.prior = prior or StandardNormal(z_dim)
        check_fit("prior", self.prior, (z_dim,), 0)

    def model(self, x: Tensor | None = None, size: int = 1) -> Tensor:
        """Generate `size` images, or as many as there are in x (batch, channels, height, width),
        which are observed.
        """
        prior, generator = register("prior", self.prior), register("generator", self.generator)
        with pyro.plate("data", num_data(x, self.image_shape, size)):
            z = pyro.sample("z", prior())
            return pyro.sample("x", given_image(generator(z)), obs=x)

    def guide(self, x: Tensor | None = None, size: int = 1) -> Tensor:
        """z as the prior draws it: what an engine that asks for a guide may have, where the loss
        compares x alone.
        """
        prior = register("prior", self.prior)
        with pyro.plate("data", num_data(x, self.image_shape, size)):
            return pyro.sample("z", prior())


class SAGAN(SNGAN):
    """SNGAN with attention between pixels before the last block, and spectral norms in the
    generator as well.

    Train it by `Hinge("x", ResidualCritic(image_shape, attention=True))`, with a smaller learning
    rate for the generator than for the critic (1e-4 and 4e-4 in the paper).

    Args:
        as SNGAN.

    References:
        Zhang et al. (2019), arXiv:1805.08318.

    Example:
        >>> SAGAN((1, 4, 4), 2, hidden_channels=(3,)).model(size=5).shape
        torch.Size([5, 1, 4, 4])
    """

    attention, spectral_norm = True, "matrix"
