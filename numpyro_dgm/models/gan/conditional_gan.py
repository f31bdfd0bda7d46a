"""Conditional generative adversarial network:  z_n ~ prior;  y_n ~ Categorical(frequencies);  x_n =
generator(z_n, y_n).

x has no density: train it by terms that compare x and the label together, such as
JensenShannon(("x", "y")).
"""

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
import numpyro
from jax import Array
from numpyro.distributions import Categorical

from dgm_core.arguments import check_count, check_counts, check_numbers, check_sizes, refuse
from numpyro_dgm.conditionals import Conditional, StandardNormal
from numpyro_dgm.models.gan.labeled import LabeledGAN
from numpyro_dgm.models.parts import (
    check_conditionals,
    check_fit,
    check_network,
    given,
    outline,
)
from numpyro_dgm.nn import MLP, register
from numpyro_dgm.nn.contexts import one_hot


class ConditionalGAN(LabeledGAN):
    """A generative adversarial network of vectors x with a class label y.

    Train it by `fit(gan.model, None, (x, y), loss=JensenShannon(("x", "y"), ProjectionCritic(x_dim,
    num_classes), regularizer=R1()))`: y is observed in the data and drawn by the model, x is drawn
    given it, and the pairs are compared.

    Args:
        x_dim: the size of a datum.
        z_dim: the size of the latent vector.
        num_classes: of y.
        hidden: the sizes of the generator's hidden layers.
        frequencies: of the classes (default all equal).
        generator: a network from z and a one-hot y to x (default MLP(z_dim + num_classes, hidden,
            x_dim)).
        prior: of z (default StandardNormal(z_dim)). Sites: z (z_dim,), y (), x (x_dim,), in the
            plate "data".

    Shapes:
        x (batch, x_dim), y (batch,) integers.

    Raises:
        ValueError: if a size, the frequencies, the generator, the prior or the data do not fit.
        NoDensityError: when a loss asks for the density of x.

    References:
        Mirza and Osindero (2014), arXiv:1411.1784.

    Example:
        >>> gan = ConditionalGAN(2, 4, 10, key=jax.random.key(0))
        >>> with numpyro.handlers.seed(rng_seed=0):
        ...     gan.model(y=jnp.arange(10)).shape
        (10, 2)
    """

    x_dim: int = eqx.field(static=True)
    z_dim: int = eqx.field(static=True)
    num_classes: int = eqx.field(static=True)
    frequencies: tuple[float, ...] = eqx.field(static=True)
    generator: MLP
    prior: Conditional

    def __init__(
        self,
        x_dim: int,
        z_dim: int,
        num_classes: int,
        *,
        hidden: Sequence[int] = (128, 128),
        frequencies: Sequence[float] | None = None,
        generator: MLP | None = None,
        prior: Conditional | None = None,
        key: Array,
    ) -> None:
        x_dim, z_dim = check_counts(x_dim=x_dim, z_dim=z_dim)
        num_classes = check_count("num_classes", num_classes, 2)
        hidden = check_sizes("hidden", hidden)
        check_network("generator", generator, z_dim + num_classes)
        check_conditionals(prior=prior)
        self.x_dim, self.z_dim, self.num_classes = x_dim, z_dim, num_classes
        self.frequencies = check_frequencies(frequencies, num_classes)
        self.generator = generator or MLP(z_dim + num_classes, hidden, x_dim, key=key)
        self.prior = prior or StandardNormal(z_dim)
        check_fit("prior", self.prior, (z_dim,), 0)
        if self.generator.out_dim != x_dim:
            raise ValueError(f"The generator must give {x_dim} numbers, got {self.generator!r}.")

    def __repr__(self) -> str:
        return outline(self)

    @property
    def x_shape(self) -> tuple[int, ...]:
        """Of a datum."""
        return (self.x_dim,)

    def model(self, x: Array | None = None, y: Array | None = None, size: int = 1) -> Array:
        """Generate `size` data, or one for each label y (batch,), or as many as there are in x
        (batch, x_dim), which are observed.
        """
        prior, generator = register("prior", self.prior), register("generator", self.generator)
        with numpyro.plate("data", self.num_pairs(x, y, size)):
            z = numpyro.sample("z", prior())
            y = numpyro.sample("y", Categorical(probs=jnp.array(self.frequencies, z.dtype)), obs=y)
            label = one_hot(y, self.num_classes, "y").astype(z.dtype)
            both = jnp.concatenate(
                [z, jnp.broadcast_to(label, (*z.shape[:-1], self.num_classes))], -1
            )  # (*batch, z_dim + num_classes)
            return numpyro.sample("x", given(generator(both), 1), obs=x)


def check_frequencies(frequencies: Sequence[float] | None, num_classes: int) -> tuple[float, ...]:
    """The frequencies as they were given, or equal ones; ValueError unless they are positive and
    sum to one.
    """
    if frequencies is None:
        return (1 / num_classes,) * num_classes
    found = check_numbers("frequencies", frequencies, above=0)
    if len(found) != num_classes or abs(sum(found) - 1) > 1e-4:
        refuse("frequencies", f"{num_classes} positive numbers that sum to one", found)
    return found
