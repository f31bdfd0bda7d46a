"""Deep latent Gaussian mixture:  vk_n ~ Beta(1, concentration), or with `symmetric`
Beta(concentration, (K - k) concentration);  y_n ~ Categorical(stick(v_n)), stick(v)_k = v_k
(1 - v_1) ... (1 - v_(k-1));  z_n | y_n ~ prior(y_n);  x_n | z_n ~ likelihood(decoder(z_n)).

The guide has q(v_n | x_n) = Kumaraswamy(sticks(x_n)), q(y_n | v_n) = p(y_n | v_n) and q(z_n | x_n,
y_n) = posterior(encoder(x_n, y_n)).
"""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from jax import Array
from numpyro import distributions as dist

from dgm_core.arguments import check_count, check_counts, check_flag, check_number, check_sizes
from dgm_core.contexts import Labels
from dgm_core.mixtures import raw_scale
from numpyro_dgm.conditionals import Bernoulli, Conditional, DiagonalNormal, Kumaraswamy
from numpyro_dgm.models.parts import check_conditionals, check_fit, num_data, outline
from numpyro_dgm.models.semi_supervised.labels import seen_by
from numpyro_dgm.models.vae.pretrained import as_array
from numpyro_dgm.nn import MLP, register


class DLGMM(eqx.Module):
    """A variational autoencoder whose codes come in clusters, with weights of each datum that break
    a stick (Nalisnick, Hertel & Smyth 2016).

    Fit it by `ELBO(enumerate="y", analytic_kl=True)`: the divergence of Kumaraswamy and Beta is
    that of quadrature, to rounding. q(v | x) starts at the prior.

    y depends on x through v alone, so the prior of v says what it costs to be sure of a cluster.
    With the default a gradient that starts there gives the tenth of ten clusters no weight where it
    gains 40 nats, and the fifth .08 where it gains 10: the model ends in the first two. With
    `symmetric=True, concentration=0.1`, under which a draw is mostly one cluster, each gets .9.

    Args:
        x_dim: the size of a datum.
        z_dim: the size of its code.
        num_classes: the number of clusters at most, K, at least 2.
        concentration: of the sticks; a small one asks for few clusters in all, or with `symmetric`
            in each datum.
        symmetric: weights of a symmetric Dirichlet(concentration), in place of the first K of a
            Dirichlet process.
        hidden: the sizes of the hidden layers of both encoders, which the decoder has in reverse
            order.
        prior: of z given y, `Labels(num_classes)` (default DiagonalNormal(z_dim)).
        likelihood: of x given the decoder's features (default Bernoulli(x_dim)). Sites: v (K - 1,),
            y (), z (z_dim,), x (x_dim,), in the plate "data".

    Shapes:
        x (batch, x_dim).

    Raises:
        ValueError: if a size, a conditional or the data do not fit.

    Cost:
        encoder and decoder run for all K clusters of each datum.

    References:
        Nalisnick, Hertel & Smyth (2016), Approximate inference for deep latent Gaussian mixtures.

    Example:
        >>> model = DLGMM(64, 2, 10, hidden=(100,), key=jax.random.key(0))
        >>> with numpyro.handlers.seed(rng_seed=0):
        ...     model.model(size=5).shape
        (5, 64)
    """

    x_dim: int = eqx.field(static=True)
    z_dim: int = eqx.field(static=True)
    num_classes: int = eqx.field(static=True)
    concentration: float = eqx.field(static=True)
    symmetric: bool = eqx.field(static=True)
    encoder: MLP
    decoder: MLP
    stick_encoder: MLP
    sticks: Kumaraswamy
    posterior: DiagonalNormal
    prior: Conditional
    likelihood: Conditional

    def __init__(
        self,
        x_dim: int,
        z_dim: int,
        num_classes: int,
        *,
        concentration: float = 1.0,
        symmetric: bool = False,
        hidden: Sequence[int] = (200, 200),
        prior: Conditional | None = None,
        likelihood: Conditional | None = None,
        key: Array,
    ) -> None:
        x_dim, z_dim = check_counts(x_dim=x_dim, z_dim=z_dim)
        num_classes = check_count("num_classes", num_classes, 2)
        hidden = check_sizes("hidden", hidden, least=1)
        check_conditionals(prior=prior, likelihood=likelihood)
        self.x_dim, self.z_dim, self.num_classes = x_dim, z_dim, num_classes
        self.concentration = float(check_number("concentration", concentration, above=0))
        self.symmetric = check_flag("symmetric", symmetric)
        keys = jax.random.split(key, 7)
        self.encoder = MLP(x_dim + num_classes, hidden, key=keys[0])
        self.decoder = MLP(z_dim, hidden[::-1], key=keys[1])
        self.stick_encoder = MLP(x_dim, hidden, key=keys[2])
        family: Any = Kumaraswamy
        sticks = family(num_classes - 1, context_shape=hidden[-1], key=keys[3])
        start = as_array(raw_scale(np.concatenate(self._breaks()), sticks.floor))
        self.sticks = eqx.tree_at(lambda own: own.head.bias, sticks, start)
        self.posterior = DiagonalNormal(z_dim, context_shape=hidden[-1], key=keys[4])
        self.prior = prior or DiagonalNormal(z_dim, context_shape=Labels(num_classes), key=keys[5])
        self.likelihood = likelihood or Bernoulli(x_dim, context_shape=hidden[0], key=keys[6])
        check_fit("prior", self.prior, (z_dim,), Labels(num_classes))
        check_fit("likelihood", self.likelihood, (x_dim,), hidden[0])

    def __repr__(self) -> str:
        return outline(self)

    def _breaks(self) -> tuple[np.ndarray, np.ndarray]:
        """Both concentrations of the prior of v."""
        one = np.ones(self.num_classes - 1)
        if not self.symmetric:
            return one, self.concentration * one
        return self.concentration * one, self.concentration * np.arange(len(one), 0.0, -1.0)

    def model(self, x: Array | None = None, size: int = 1) -> Array:
        """Generate `size` data, or score the data x (batch, x_dim)."""
        prior, decoder = register("prior", self.prior), register("decoder", self.decoder)
        likelihood = register("likelihood", self.likelihood)
        odd, even = (jnp.asarray(part) for part in self._breaks())
        with numpyro.plate("data", num_data(x, (self.x_dim,), size)):
            v = numpyro.sample("v", dist.Beta(odd, even).to_event(1))
            y = numpyro.sample("y", dist.Categorical(logits=broken(v)))
            z = numpyro.sample("z", prior(y))
            return numpyro.sample("x", likelihood(decoder(z)), obs=x)

    def guide(self, x: Array | None = None, size: int = 1) -> Array:
        """Infer v, y and z from the data x (batch, x_dim)."""
        if x is None:
            raise ValueError(
                f"The guide infers z from data: call it with x of shape (batch, {self.x_dim})."
            )
        stick_encoder = register("stick_encoder", self.stick_encoder)
        sticks = register("sticks", self.sticks)
        encoder, posterior = (
            register("encoder", self.encoder),
            register("posterior", self.posterior),
        )
        with numpyro.plate("data", num_data(x, (self.x_dim,), size)):
            v = numpyro.sample("v", sticks(stick_encoder(x)))
            y = numpyro.sample("y", dist.Categorical(logits=broken(v)))
            return numpyro.sample("z", posterior(seen_by(encoder, self.num_classes, y, x)))


def broken(v: Array) -> Array:
    """The logarithms of the pieces of a stick that is broken at v (*batch, K - 1): (*batch, K)."""
    rest = jnp.cumsum(jnp.log1p(-v), -1)
    left = jnp.concatenate([jnp.zeros_like(v[..., :1]), rest], -1)
    return left + jnp.concatenate([jnp.log(v), jnp.zeros_like(v[..., :1])], -1)
