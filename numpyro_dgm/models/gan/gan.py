"""Generative adversarial network:  z_n ~ prior;  x_n = generator(z_n).

x has no density: the generator is trained by terms that compare its draws with data, such as
JensenShannon("x"), Wasserstein("x") or MMD("x").
"""

from collections.abc import Sequence

import equinox as eqx
import numpyro
from jax import Array

from dgm_core.arguments import check_counts, check_sizes
from numpyro_dgm.conditionals import Conditional, StandardNormal
from numpyro_dgm.models.parts import (
    check_conditionals,
    check_fit,
    check_network,
    given,
    num_data,
    outline,
)
from numpyro_dgm.nn import MLP, register


class GAN(eqx.Module):
    """A generative adversarial network of vectors.

    Train it by `fit(gan.model, None, x, loss=JensenShannon("x", regularizer=R1()))`, or any other
    loss that needs no density of x.

    Args:
        x_dim: the size of a datum.
        z_dim: the size of the latent vector.
        hidden: the sizes of the generator's hidden layers.
        generator: a network from z to x (default MLP(z_dim, hidden, x_dim)).
        prior: of z (default StandardNormal(z_dim)). Sites: z (z_dim,), x (x_dim,), in the plate
            "data".

    Shapes:
        x (batch, x_dim).

    Raises:
        ValueError: if a size, the generator, the prior or the data do not fit.
        NoDensityError: when a loss asks for the density of x.

    References:
        Goodfellow et al. (2014), arXiv:1406.2661.

    Example:
        >>> gan = GAN(2, 4, key=jax.random.key(0))
        >>> with numpyro.handlers.seed(rng_seed=0):
        ...     gan.model(size=5).shape
        (5, 2)
    """

    x_dim: int = eqx.field(static=True)
    z_dim: int = eqx.field(static=True)
    generator: MLP
    prior: Conditional

    def __init__(
        self,
        x_dim: int,
        z_dim: int,
        *,
        hidden: Sequence[int] = (128, 128),
        generator: MLP | None = None,
        prior: Conditional | None = None,
        key: Array,
    ) -> None:
        x_dim, z_dim = check_counts(x_dim=x_dim, z_dim=z_dim)
        hidden = check_sizes("hidden", hidden)
        check_network("generator", generator, z_dim)
        check_conditionals(prior=prior)
        self.x_dim, self.z_dim = x_dim, z_dim
        self.generator = generator or MLP(z_dim, hidden, x_dim, key=key)
        self.prior = prior or StandardNormal(z_dim)
        check_fit("prior", self.prior, (z_dim,), 0)
        if self.generator.out_dim != x_dim:
            raise ValueError(f"The generator must give {x_dim} numbers, got {self.generator!r}.")

    def __repr__(self) -> str:
        return outline(self)

    def model(self, x: Array | None = None, size: int = 1) -> Array:
        """Generate `size` data, or as many as there are in x (batch, x_dim), which are observed."""
        prior, generator = register("prior", self.prior), register("generator", self.generator)
        with numpyro.plate("data", num_data(x, (self.x_dim,), size)):
            z = numpyro.sample("z", prior())
            return numpyro.sample("x", given(generator(z), 1), obs=x)

    def guide(self, x: Array | None = None, size: int = 1) -> Array:
        """z as the prior draws it: what an engine that asks for a guide may have, where the loss
        compares x alone.
        """
        prior = register("prior", self.prior)
        with numpyro.plate("data", num_data(x, (self.x_dim,), size)):
            return numpyro.sample("z", prior())
