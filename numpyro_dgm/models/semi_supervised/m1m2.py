"""M1 + M2, two layers:  y_n ~ class_prior;  z2_n ~ prior;  z1_n | y_n, z2_n ~ M2's likelihood;
x_n | z1_n ~ M1's likelihood;  the guide has M1's q(z1_n | x_n) and M2's q(y_n | z1_n) and
q(z2_n | z1_n, y_n).
"""

from collections.abc import Sequence

import equinox as eqx
import jax
import numpyro
from jax import Array

from dgm_core.arguments import check_count, check_counts, check_instance, check_sizes
from numpyro_dgm.conditionals import Conditional, DiagonalNormal
from numpyro_dgm.models.parts import check_fit, outline
from numpyro_dgm.models.semi_supervised.labels import (
    class_prior_of,
    guessed,
    labels,
    num_labeled,
    seen_by,
)
from numpyro_dgm.models.semi_supervised.m2 import M2
from numpyro_dgm.models.vae.vae import VAE
from numpyro_dgm.nn import register


class M1M2(eqx.Module):
    """An autoencoder and an M2 of its codes, as one model (Kingma et al. 2014).

    Fit it by `ELBO(enumerate="y") + weight * NLL("y")`. The paper fits it layer by layer: first a
    VAE of the data, then an M2 of draws of its codes; give both as `m1` and `m2`, and the pair is
    what they say of data together.

    Args:
        x_dim: the size of a datum.
        z1_dim: the size of its code in the first layer.
        z2_dim: the size of that in the second.
        num_classes: K, at least 2.
        hidden: the sizes of the hidden layers of both.
        m1: a VAE of data x_dim with codes z1_dim, whose prior the second layer replaces.
        m2: an M2 of data z1_dim with codes z2_dim (default: with a DiagonalNormal likelihood).
        likelihood: of x in the first layer (default Bernoulli(x_dim)). Sites: y (), z2 (z2_dim,),
            z1 (z1_dim,), x (x_dim,), in the plate "data".

    Shapes:
        x (batch, x_dim); y (batch,) integers, -1 where the label is missing; without y all are.

    Raises:
        ValueError: if a size, a part or the data do not fit, and for labels out of range.

    Cost:
        under enumeration the decoder of x runs for all K labels of each datum, as M2's networks do.

    References:
        Kingma, Rezende, Mohamed & Welling (2014), arXiv:1406.5298, section 2.3.

    Example:
        >>> pair = M1M2(64, 5, 2, 10, hidden=(100,), key=jax.random.key(0))
        >>> with numpyro.handlers.seed(rng_seed=0):
        ...     pair.model(y=jnp.arange(10)).shape
        (10, 64)
    """

    x_dim: int = eqx.field(static=True)
    z1_dim: int = eqx.field(static=True)
    z2_dim: int = eqx.field(static=True)
    num_classes: int = eqx.field(static=True)
    m1: VAE
    m2: M2

    def __init__(
        self,
        x_dim: int,
        z1_dim: int,
        z2_dim: int,
        num_classes: int,
        *,
        hidden: Sequence[int] = (200, 200),
        m1: VAE | None = None,
        m2: M2 | None = None,
        likelihood: Conditional | None = None,
        key: Array,
    ) -> None:
        x_dim, z1_dim, z2_dim = check_counts(x_dim=x_dim, z1_dim=z1_dim, z2_dim=z2_dim)
        num_classes = check_count("num_classes", num_classes, 2)
        hidden = check_sizes("hidden", hidden)
        if m1 is not None:
            check_instance("m1", m1, VAE, f"a VAE({x_dim}, {z1_dim})")
        if m2 is not None:
            check_instance("m2", m2, M2, f"an M2({z1_dim}, {z2_dim}, {num_classes})")
        keys = jax.random.split(key, 3)
        self.m1 = m1 or VAE(x_dim, z1_dim, hidden=hidden, likelihood=likelihood, key=keys[0])
        features = (*hidden, z2_dim + num_classes)[0]
        self.m2 = m2 or M2(
            z1_dim,
            z2_dim,
            num_classes,
            hidden=hidden,
            likelihood=DiagonalNormal(z1_dim, context_shape=features, key=keys[1]),
            key=keys[2],
        )
        self.x_dim, self.z1_dim, self.z2_dim = x_dim, z1_dim, z2_dim
        self.num_classes = self.m2.num_classes
        check_fit(
            "likelihood of m1", self.m1.likelihood, (x_dim,), self.m1.likelihood.context_shape
        )
        check_fit("posterior of m1", self.m1.posterior, (z1_dim,), self.m1.posterior.context_shape)
        check_fit(
            "likelihood of m2", self.m2.likelihood, (z1_dim,), self.m2.likelihood.context_shape
        )
        check_fit("posterior of m2", self.m2.posterior, (z2_dim,), self.m2.posterior.context_shape)

    def __repr__(self) -> str:
        return outline(self)

    def model(self, x: Array | None = None, y: Array | None = None, size: int = 1) -> Array:
        """Generate a datum for each label y or `size` data, or score the data x (batch, x_dim)."""
        m1, m2 = register("m1", self.m1), register("m2", self.m2)
        with numpyro.plate("data", num_labeled(y, self.num_classes, x, (self.x_dim,), size)):
            y = labels(class_prior_of(m2, registered=True), y)
            z2 = numpyro.sample("z2", m2.prior(y if m2.prior.context_shape else None))
            z1 = numpyro.sample("z1", m2.likelihood(seen_by(m2.decoder, self.num_classes, y, z2)))
            return numpyro.sample("x", m1.likelihood(m1.decoder(z1)), obs=x)

    def guide(self, x: Array | None = None, y: Array | None = None, size: int = 1) -> Array:
        """Infer z1, y where it is missing, and z2 from the data x (batch, x_dim)."""
        if x is None:
            raise ValueError(
                f"The guide infers z1 from data: call it with x of shape (batch, {self.x_dim})."
            )
        m1, m2 = register("m1", self.m1), register("m2", self.m2)
        with numpyro.plate("data", num_labeled(y, self.num_classes, x, (self.x_dim,), size)):
            z1 = numpyro.sample("z1", m1.posterior(m1.encoder(x)))
            y = guessed(m2.classes(m2.classifier(z1)), y)
            return numpyro.sample("z2", m2.posterior(seen_by(m2.encoder, self.num_classes, y, z1)))
