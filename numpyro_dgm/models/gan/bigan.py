"""BiGAN / ALI:  z_n ~ prior;  x_n | z_n ~ generator(z_n);  q(z_n | x_n) = posterior(x_n);  both
conditionals may be networks without a density.

Trained by one critic of pairs, JensenShannon(("x", "z")): at the optimum q(x, z) = p(x, z), so that
the guide is the generator's posterior.
"""

from collections.abc import Sequence

import equinox as eqx
import jax
import numpyro
from jax import Array

from dgm_core.arguments import check_counts, check_sizes
from numpyro_dgm.conditionals import Conditional, Generator, StandardNormal
from numpyro_dgm.models.parts import check_conditionals, check_fit, num_data, outline
from numpyro_dgm.nn import register


class BiGAN(eqx.Module):
    """A generative adversarial network with an inference network (Donahue et al. 2017, Dumoulin et
    al. 2017).

    Trained by `JensenShannon(("x", "z"))`, or any other divergence of pairs.

    Args:
        x_dim: the size of a datum.
        z_dim: the size of the latent vector.
        hidden: the sizes of the layers of the default generator and, in reverse order, of the
            default posterior.
        prior: of z (default StandardNormal(z_dim)).
        generator: of x given z (default Generator(x_dim, context_shape=z_dim)) and posterior of z
            given x (default Generator(z_dim, context_shape=x_dim)), conditionals that are
            reparameterized. Sites: z (z_dim,), x (x_dim,), in the plate "data".

    Shapes:
        x (batch, x_dim).

    Raises:
        ValueError: if a size, a conditional or the data do not fit.

    References:
        Donahue, Krahenbuhl and Darrell (2017), arXiv:1605.09782; Dumoulin et al. (2017),
        arXiv:1606.00704.

    Example:
        >>> with numpyro.handlers.seed(rng_seed=0):
        ...     BiGAN(64, 2, key=jax.random.key(0)).model(size=5).shape
        (5, 64)
    """

    x_dim: int = eqx.field(static=True)
    z_dim: int = eqx.field(static=True)
    prior: Conditional
    generator: Conditional
    posterior: Conditional

    def __init__(
        self,
        x_dim: int,
        z_dim: int,
        *,
        hidden: Sequence[int] = (200, 200),
        prior: Conditional | None = None,
        generator: Conditional | None = None,
        posterior: Conditional | None = None,
        key: Array,
    ) -> None:
        x_dim, z_dim = check_counts(x_dim=x_dim, z_dim=z_dim)
        hidden = check_sizes("hidden", hidden)
        check_conditionals(prior=prior, generator=generator, posterior=posterior)
        keys = jax.random.split(key)
        self.x_dim, self.z_dim = x_dim, z_dim
        self.prior = prior or StandardNormal(z_dim)
        self.generator = generator or Generator(
            x_dim, context_shape=z_dim, hidden=hidden, key=keys[0]
        )
        self.posterior = posterior or Generator(
            z_dim, context_shape=x_dim, hidden=hidden[::-1], key=keys[1]
        )
        check_fit("prior", self.prior, (z_dim,), 0)
        check_fit("generator", self.generator, (x_dim,), z_dim)
        check_fit("posterior", self.posterior, (z_dim,), x_dim)

    def __repr__(self) -> str:
        return outline(self)

    def model(self, x: Array | None = None, size: int = 1) -> Array:
        """Generate `size` data, or as many as x (batch, x_dim)."""
        prior, generator = register("prior", self.prior), register("generator", self.generator)
        with numpyro.plate("data", num_data(x, (self.x_dim,), size)):
            z = numpyro.sample("z", prior())
            return numpyro.sample("x", generator(z), obs=x)

    def guide(self, x: Array | None = None, size: int = 1) -> Array:
        """Infer z from the data x (batch, x_dim)."""
        if x is None:
            raise ValueError(
                f"The guide infers z from data: call it with x of shape (batch, {self.x_dim})."
            )
        posterior = register("posterior", self.posterior)
        with numpyro.plate("data", num_data(x, (self.x_dim,), size)):
            return numpyro.sample("z", posterior(x))
