"""InfoGAN:  z_n ~ Normal(0, I);  c_n ~ Categorical(1 / K);  s_n ~ Normal(0, I);  x_n =
generator(z_n, c_n, s_n);  the guide infers the codes c_n, s_n from x_n.

Trained by JensenShannon("x") + MutualInformation("c") + 0.1 * MutualInformation("s"): images must
tell their codes.
"""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro
from jax import Array
from numpyro import distributions as dist

from dgm_core.arguments import check_count, check_counts, check_sizes
from numpyro_dgm.conditionals import Categorical, DiagonalNormal, StandardNormal
from numpyro_dgm.models.parts import check_network, given, num_data, outline
from numpyro_dgm.nn import MLP, register


class InfoGAN(eqx.Module):
    """A generative adversarial network with codes that its draws reveal (Chen et al. 2016).

    Args:
        x_dim: the size of a datum.
        noise_dim: of z.
        num_classes: of the code c, at least 2.
        num_codes: of the continuous codes s (0: there are none).
        hidden: the layers of the generator, which the encoder has in reverse order.
        generator, encoder: networks with attributes `in_dim` and `out_dim` (default MLP; the
            generator's output is x itself, the encoder's last hidden layer the features of x).
            Sites: z (noise_dim,), c (1,), s (num_codes,) if there are any, x (x_dim,), in the plate
            "data". The guide draws z from its prior.

    Shapes:
        x (batch, x_dim).

    Raises:
        ValueError: if a size, a network or the data do not fit.

    References:
        Chen et al. (2016), arXiv:1606.03657.

    Example:
        >>> with numpyro.handlers.seed(rng_seed=0):
        ...     InfoGAN(64, 16, 10, key=jax.random.key(0)).model(size=5).shape
        (5, 64)
    """

    x_dim: int = eqx.field(static=True)
    noise_dim: int = eqx.field(static=True)
    num_classes: int = eqx.field(static=True)
    num_codes: int = eqx.field(static=True)
    noise: StandardNormal
    code_prior: StandardNormal | None
    generator: MLP
    encoder: MLP
    classes: Categorical
    codes: DiagonalNormal | None

    def __init__(
        self,
        x_dim: int,
        noise_dim: int,
        num_classes: int,
        num_codes: int = 0,
        *,
        hidden: Sequence[int] = (200, 200),
        generator: MLP | None = None,
        encoder: MLP | None = None,
        key: Array,
    ) -> None:
        x_dim, noise_dim = check_counts(x_dim=x_dim, noise_dim=noise_dim)
        num_classes = check_count("num_classes", num_classes, 2)
        num_codes = check_count("num_codes", num_codes, 0)
        hidden = check_sizes("hidden", hidden)
        check_network("generator", generator, noise_dim + num_classes + num_codes)
        check_network("encoder", encoder, x_dim)
        keys = jax.random.split(key, 4)
        self.x_dim, self.noise_dim, self.num_classes, self.num_codes = (
            x_dim,
            noise_dim,
            num_classes,
            num_codes,
        )
        self.noise, self.code_prior = (
            StandardNormal(noise_dim),
            StandardNormal(num_codes) if num_codes else None,
        )
        self.generator = generator or MLP(
            noise_dim + num_classes + num_codes, hidden, x_dim, key=keys[0]
        )
        self.encoder = encoder or MLP(x_dim, hidden[::-1], key=keys[1])
        if self.generator.out_dim != x_dim:
            raise ValueError(
                f"The generator must give x, out_dim={x_dim}, got out_dim={self.generator.out_dim}."
            )
        self.classes = Categorical(1, num_classes, context_shape=self.encoder.out_dim, key=keys[2])
        self.codes = (
            DiagonalNormal(num_codes, context_shape=self.encoder.out_dim, key=keys[3])
            if num_codes
            else None
        )

    def __repr__(self) -> str:
        return outline(self)

    def model(self, x: Array | None = None, size: int = 1) -> Array:
        """Generate `size` data, or as many as x (batch, x_dim)."""
        generator = register("generator", self.generator)
        with numpyro.plate("data", num_data(x, (self.x_dim,), size)):
            z = numpyro.sample("z", self.noise())
            c = numpyro.sample(
                "c", dist.Categorical(logits=jnp.zeros((1, self.num_classes))).to_event(1)
            )
            inputs = [z, (c == jnp.arange(self.num_classes)).astype(z.dtype)]
            if self.code_prior is not None:
                inputs.append(numpyro.sample("s", self.code_prior()))
            return numpyro.sample("x", given(generator(jnp.concatenate(inputs, -1)), 1), obs=x)

    def guide(self, x: Array | None = None, size: int = 1) -> Array:
        """Infer the codes from the data x (batch, x_dim)."""
        if x is None:
            raise ValueError(
                f"The guide infers codes from data: call it with x of shape (batch, {self.x_dim})."
            )
        encoder, classes = register("encoder", self.encoder), register("classes", self.classes)
        with numpyro.plate("data", num_data(x, (self.x_dim,), size)):
            features = encoder(x)
            numpyro.sample("z", self.noise())
            if self.codes is not None:
                numpyro.sample("s", register("codes", self.codes)(features))
            return numpyro.sample("c", classes(features))
