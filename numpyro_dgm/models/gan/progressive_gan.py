"""Generator of images that grows while it is trained:  z_n ~ prior;  x_n = generator(z_n, level),
the data seen at the same level, a function of the step.
"""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import numpyro
from jax import Array
from numpyro.distributions import constraints

from dgm_core.arguments import check_count, check_weight
from numpyro_dgm.conditionals import Conditional, StandardNormal
from numpyro_dgm.models.parts import (
    check_conditionals,
    check_fit,
    check_images,
    given,
    num_data,
    outline,
)
from numpyro_dgm.nn import ProgressiveGenerator, register
from numpyro_dgm.nn.progressive import Growth, at_level


class ProgressiveGAN(eqx.Module):
    """A generative adversarial network of images with values in [0, 1] that begins with small
    images and takes in one stage of twice the size after the other.

    Train it by `fit(gan.model, None, x, loss=Wasserstein("x", ProgressiveCritic(image_shape,
    growth)))` on images of full size, in one run: the level is a function of the step, and what is
    counted for it is saved and resumed with the run. All images, of data and of draws, have full
    size; at a lower level they are means of pixels, repeated.

    Args:
        image_shape: channels, height and width, divisible by 2 for each stage after the first.
        z_dim: the size of the latent vector.
        growth: the level as a function of the step, such as `growing(2, 1000, 500)`, or a number;
            the critic has the same.
        hidden_channels: of the default generator, before each doubling: as many as there are stages
            after the first.
        generator: a network called with z and the level, with attributes `hidden_channels` and
            `out_shape` (default ProgressiveGenerator).
        prior: of z (default StandardNormal(z_dim)). Sites: z (z_dim,), x (channels, height, width),
            in the plate "data".

    Shapes:
        x (batch, channels, height, width).

    Cost:
        of the full size from the first step on: one compiled step serves all levels.

    Raises:
        ValueError: if a size, the growth, the generator, the prior or the data do not fit.
        NoDensityError: when a loss asks for the density of x.

    References:
        Karras et al. (2018), arXiv:1710.10196.

    Example:
        >>> from dgm_core.schedules import growing
        >>> gan = ProgressiveGAN((1, 8, 8), 4, growing(2, 100, 100), key=jax.random.key(0))
        >>> with numpyro.handlers.seed(rng_seed=0):
        ...     jax.eval_shape(lambda: gan.model(size=5)).shape
        (5, 1, 8, 8)
    """

    image_shape: tuple[int, ...] = eqx.field(static=True)
    z_dim: int = eqx.field(static=True)
    growth: Growth
    generator: ProgressiveGenerator
    prior: Conditional

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        z_dim: int,
        growth: float | Callable[[Any], Any],
        *,
        hidden_channels: Sequence[int] = (64, 32),
        generator: ProgressiveGenerator | None = None,
        prior: Conditional | None = None,
        key: Array,
    ) -> None:
        self.z_dim = check_count("z_dim", z_dim)
        check_conditionals(prior=prior)
        self.image_shape = check_images(generator, image_shape, z_dim)
        self.growth = Growth(check_weight("growth", growth, least=0))
        self.generator = generator or ProgressiveGenerator(
            z_dim, image_shape, hidden_channels=hidden_channels, key=key
        )
        self.prior = prior or StandardNormal(z_dim)
        check_fit("prior", self.prior, (z_dim,), 0)

    def __repr__(self) -> str:
        return outline(self)

    def model(self, x: Array | None = None, size: int = 1) -> Array:
        """Generate `size` images, or as many as there are in x (batch, channels, height, width),
        which are observed at the level of the step.
        """
        prior, generator = register("prior", self.prior), register("generator", self.generator)
        level = register("growth", self.growth)()
        with numpyro.plate("data", num_data(x, self.image_shape, size)):
            z = numpyro.sample("z", prior())
            fn = given(generator(z, level), 3, constraints.unit_interval)
            stages = len(self.generator.hidden_channels)
            return numpyro.sample("x", fn, obs=None if x is None else at_level(x, level, stages))

    def guide(self, x: Array | None = None, size: int = 1) -> Array:
        """z as the prior draws it: what an engine that asks for a guide may have, where the loss
        compares x alone.
        """
        prior = register("prior", self.prior)
        with numpyro.plate("data", num_data(x, self.image_shape, size)):
            return numpyro.sample("z", prior())
