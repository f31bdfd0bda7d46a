"""Ladder variational autoencoder:  zL_n ~ Normal(0, I);  zl_n | zm_n ~
priors[l](decoders[l](zm_n)), m = l + 1;  x_n | z1_n ~ likelihood(decoder(z1_n)).

The guide runs up, d_l = encoders[l](d_(l-1)) from d_0 = x, and then down: q(zL_n | x_n) =
evidence[L](d_L), q(zl_n | zm_n, x_n) = merge(evidence[l](d_l), p(zl_n | zm_n)), the product.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import equinox as eqx
import jax
import numpyro
from jax import Array

from dgm_core.arguments import check_count, check_sizes
from numpyro_dgm.conditionals import Bernoulli, Conditional, DiagonalNormal, StandardNormal, merge
from numpyro_dgm.models.parts import check_conditionals, check_fit, num_data
from numpyro_dgm.nn import MLP, register


class LadderVAE(eqx.Module):
    """A variational autoencoder with layers of latents, whose guide shares the model's way down
    (Sonderby et al. 2016).

    Layers far from the data tend to collapse: see `evaluation.collapse`, layer by layer, and
    `ELBO(beta=linear(10_000))` or `ELBO(free_bits=0.5)` against it.

    Args:
        x_dim: the size of a datum.
        z_dims: the sizes of the layers, from the data up.
        hidden: the sizes of the hidden layers of each network.
        likelihood: of x given the decoder's features (default Bernoulli(x_dim)). Sites: zL, ...,
            z1, x (x_dim,), in the plate "data".

    Shapes:
        x (batch, x_dim).

    Raises:
        ValueError: if a size, a conditional or the data do not fit.

    References:
        Sonderby, Raiko, Maaloe, Sonderby & Winther (2016), arXiv:1602.02282.

    Example:
        >>> vae = LadderVAE(64, (8, 2), hidden=(100,), key=jax.random.key(0))
        >>> with numpyro.handlers.seed(rng_seed=0):
        ...     vae.model(size=5).shape
        (5, 64)
    """

    x_dim: int = eqx.field(static=True)
    z_dims: tuple[int, ...] = eqx.field(static=True)
    encoders: list[MLP]
    evidence: list[DiagonalNormal]
    decoders: list[MLP]
    priors: list[DiagonalNormal]
    prior: StandardNormal
    decoder: MLP
    likelihood: Conditional

    def __init__(
        self,
        x_dim: int,
        z_dims: Sequence[int],
        *,
        hidden: Sequence[int] = (200, 200),
        likelihood: Conditional | None = None,
        key: Array,
    ) -> None:
        x_dim, z_dims = check_count("x_dim", x_dim), check_sizes("z_dims", z_dims, least=1)
        hidden = check_sizes("hidden", hidden)
        check_conditionals(likelihood=likelihood)
        self.x_dim, self.z_dims = x_dim, z_dims
        last = hidden[-1] if hidden else x_dim  # what each encoder gives
        sizes = [x_dim, *[last] * (len(z_dims) - 1)]
        keys, *down = (iter(jax.random.split(k, len(z_dims))) for k in jax.random.split(key, 5))
        self.encoders = [MLP(size, hidden, key=k) for size, k in zip(sizes, keys)]
        self.evidence = [DiagonalNormal(z, context_shape=last, key=next(down[0])) for z in z_dims]
        self.decoders = [MLP(z, hidden, key=next(down[1])) for z in z_dims[1:]]
        self.priors = [
            DiagonalNormal(z, context_shape=hidden[-1] if hidden else above, key=next(down[2]))
            for z, above in pairwise(z_dims)
        ]
        keys = jax.random.split(next(down[3]))
        self.prior = StandardNormal(z_dims[-1])
        self.decoder = MLP(z_dims[0], hidden[::-1], key=keys[0])
        features = self.decoder.out_dim
        self.likelihood = likelihood or Bernoulli(x_dim, context_shape=features, key=keys[1])
        check_fit("likelihood", self.likelihood, (x_dim,), features)

    def __repr__(self) -> str:
        return f"LadderVAE({self.x_dim}, {self.z_dims}, likelihood={self.likelihood!r})"

    def model(self, x: Array | None = None, size: int = 1) -> Array:
        """Generate `size` data, or score the data x (batch, x_dim)."""
        down = self._down()
        decoder = register("decoder", self.decoder)
        likelihood = register("likelihood", self.likelihood)
        with numpyro.plate("data", num_data(x, (self.x_dim,), size)):
            z = numpyro.sample(f"z{len(self.z_dims)}", register("prior", self.prior)())
            for layer, (network, prior) in down:
                z = numpyro.sample(f"z{layer}", prior(network(z)))
            return numpyro.sample("x", likelihood(decoder(z)), obs=x)

    def guide(self, x: Array | None = None, size: int = 1) -> Array:
        """Infer zL, ..., z1 from the data x (batch, x_dim)."""
        if x is None:
            raise ValueError(
                f"The guide infers z1 from data: call it with x of shape (batch, {self.x_dim})."
            )
        parts: Any = (self.encoders, self.evidence)
        encoders, evidence = register("encoders", parts[0]), register("evidence", parts[1])
        down = self._down()
        with numpyro.plate("data", num_data(x, (self.x_dim,), size)):
            found, features = [], x
            for encoder, own in zip(encoders, evidence):
                features = encoder(features)
                found.append(own(features))
            z = numpyro.sample(f"z{len(self.z_dims)}", found[-1])
            for layer, (network, prior) in down:
                z = numpyro.sample(f"z{layer}", merge(found[layer - 1], prior(network(z))))
            return z

    def _down(self) -> list[tuple[int, tuple[MLP, Conditional]]]:
        """The layers below the top, from there on: their number, network and prior."""
        decoders: Any = self.decoders
        priors: Any = self.priors
        parts = zip(register("decoders", decoders), register("priors", priors))
        return list(enumerate(parts, 1))[::-1]
