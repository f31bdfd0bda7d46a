"""Class-conditional generator of residual blocks:  z_n ~ prior;  y_n ~ Categorical(frequencies);
x_n = sigmoid(generator(z_n, (y_n, z_n))): label and latent vector scale and shift every block.
"""

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
import numpyro
from jax import Array
from numpyro.distributions import Categorical

from dgm_core.arguments import check_count
from dgm_core.contexts import Labels
from numpyro_dgm.conditionals import Conditional, StandardNormal
from numpyro_dgm.models.gan.conditional_gan import check_frequencies
from numpyro_dgm.models.gan.labeled import LabeledGAN
from numpyro_dgm.models.parts import (
    check_conditionals,
    check_fit,
    check_images,
    given_image,
    outline,
)
from numpyro_dgm.nn import ResidualGenerator, register


class BigGAN(LabeledGAN):
    """A generative adversarial network of images with values in [0, 1] and class labels.

    Train it by `fit(gan.model, None, (x, y), loss=Hinge(("x", "y"), ResidualCritic(image_shape,
    num_classes=num_classes, attention=True)))`: y is observed in the data and drawn by the model.
    Images of chosen labels are `generate(run, size=len(labels), given={"y": labels})`.

    Args:
        image_shape: channels, height and width, divisible by 2 for each block.
        z_dim: the size of the latent vector.
        num_classes: of y.
        hidden_channels: of the default generator, before each block.
        frequencies: of the classes (default all equal).
        generator: a network called with z and a context (y, z), with an attribute `out_shape`
            (default ResidualGenerator with attention and spectral norms).
        prior: of z (default StandardNormal(z_dim)); `dgm_core.truncation.truncated` moves its draws
            to the middle, for `generate(..., given={"z": z})`. Sites: z (z_dim,), y (),
            x (channels, height, width), in the plate "data".

    Shapes:
        x (batch, channels, height, width), y (batch,) integers.

    Raises:
        ValueError: if a size, the frequencies, the generator, the prior or the data do not fit, and
            for labels out of range.
        NoDensityError: when a loss asks for the density of x.

    References:
        Brock, Donahue and Simonyan (2019), arXiv:1809.11096; the whole of z goes to every block
        here, not a part of it.

    Example:
        >>> gan = BigGAN((1, 4, 4), 2, 3, hidden_channels=(3,), key=jax.random.key(0))
        >>> with numpyro.handlers.seed(rng_seed=0):
        ...     jax.eval_shape(lambda: gan.model(y=jnp.arange(3))).shape
        (3, 1, 4, 4)
    """

    image_shape: tuple[int, ...] = eqx.field(static=True)
    z_dim: int = eqx.field(static=True)
    num_classes: int = eqx.field(static=True)
    frequencies: tuple[float, ...] = eqx.field(static=True)
    generator: ResidualGenerator
    prior: Conditional

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        z_dim: int,
        num_classes: int,
        *,
        hidden_channels: Sequence[int] = (64, 32),
        frequencies: Sequence[float] | None = None,
        generator: ResidualGenerator | None = None,
        prior: Conditional | None = None,
        key: Array,
    ) -> None:
        self.z_dim = check_count("z_dim", z_dim)
        self.num_classes = check_count("num_classes", num_classes, 2)
        self.frequencies = check_frequencies(frequencies, num_classes)
        check_conditionals(prior=prior)
        self.image_shape = check_images(generator, image_shape, z_dim)
        self.generator = generator or ResidualGenerator(
            z_dim,
            image_shape,
            hidden_channels=hidden_channels,
            context_shape=(Labels(num_classes), z_dim),
            attention=True,
            spectral_norm="matrix",
            key=key,
        )
        self.prior = prior or StandardNormal(z_dim)
        check_fit("prior", self.prior, (z_dim,), 0)

    def __repr__(self) -> str:
        return outline(self)

    @property
    def x_shape(self) -> tuple[int, ...]:
        """Of a datum."""
        return self.image_shape

    def model(self, x: Array | None = None, y: Array | None = None, size: int = 1) -> Array:
        """Generate `size` images, or one for each label y (batch,), or as many as there are in x
        (batch, channels, height, width), which are observed.
        """
        prior, generator = register("prior", self.prior), register("generator", self.generator)
        with numpyro.plate("data", self.num_pairs(x, y, size)):
            z = numpyro.sample("z", prior())
            y = numpyro.sample("y", Categorical(jnp.array(self.frequencies, z.dtype)), obs=y)
            return numpyro.sample("x", given_image(generator(z, (y, z))), obs=x)
