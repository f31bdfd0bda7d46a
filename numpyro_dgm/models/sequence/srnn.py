"""Stochastic recurrent network:  d_t = cell(x_{t-1}, d_{t-1});  z_t | z_{t-1}, d_t ~ prior;
x_t | z_t, d_t ~ likelihood;  q(z_t | z_{t-1}, a_t) = posterior, with a_t = encoder(d, x) from the
end of the sequence.

The deterministic states d depend on data alone, so the guide knows all of them beforehand and
smooths: a_t sees x_1, ..., x_T.
"""

from types import SimpleNamespace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro
from jax import Array

from dgm_core.arguments import check_counts, check_flag
from dgm_core.paths import steps_given
from numpyro_dgm.conditionals import Combiner, Conditional, DiagonalNormal
from numpyro_dgm.conditionals.bernoulli import Bernoulli
from numpyro_dgm.conditionals.paths.base import previous
from numpyro_dgm.models.parts import check_conditionals, check_fit, check_network, outline
from numpyro_dgm.models.sequence.parts import (
    batch_of,
    check_cell,
    checked_impute,
    given_data,
    joined,
    mean_of,
    moved,
    seen_data,
)
from numpyro_dgm.nn import GRU, MLP, register
from numpyro_dgm.sequences import unroll


class SRNN(eqx.Module):
    """A stochastic recurrent network (Fraccaro et al. 2016), written as one step.

    Sites z (T, z_dim), x (T, x_dim), each one path, in the plate "data". The guide is a smoother,
    which reads all of x from its end.

    Args:
        x_dim: the features of a step.
        z_dim: of z_t.
        length: T; shorter sequences are padded.
        hidden: of the state d, zero at first, as z_0 and x_0 are.
        features: of the networks and the encoder.
        cell: of x_{t-1}; `step(x, d)`, and of whole sequences d = cell(x, lengths) (default GRU).
        transition, decoder: of z_{t-1} beside d_t, and of z_t beside d_t: what prior and likelihood
            read, with an attribute `out_dim` (default MLP of one layer).
        encoder: from d_t beside x_t in all steps (*batch, T, n) and lengths to features a (*batch,
            T, out_dim) (default GRU, reverse).
        prior: of z_t given the transition's features (default DiagonalNormal).
        posterior: of z_t given (z_{t-1}, a_t) (default Combiner).
        likelihood: of x_t given the decoder's features (default Bernoulli).
        residual: whether the posterior is that of z_t less the mean of the prior.
        impute: "draw" or "mean", what stands for a missing x_t in the model (see `unroll`).

    Shapes:
        x (batch, T, x_dim), or of fewer steps; lengths (batch,) of integers from 0 to T, or None;
        observed (batch, T), false where x_t is missing, for which the guide sees zeros.

    Raises:
        ValueError: if a size, a part, the data or the lengths do not fit, and for a prior without a
            mean where the residual asks for it.

    References:
        Fraccaro, Sonderby, Paquet & Winther (2016), arXiv:1605.07571.

    Example:
        >>> srnn = SRNN(8, 2, 7, hidden=16, features=16, key=jax.random.key(0))
        >>> with numpyro.handlers.seed(rng_seed=0):
        ...     srnn.model(size=5).shape
        (5, 7, 8)
    """

    x_shape: tuple[int, int] = eqx.field(static=True)
    z_dim: int = eqx.field(static=True)
    residual: bool = eqx.field(static=True)
    impute: str | None = eqx.field(static=True)
    cell: Any
    transition: Any
    encoder: Any
    decoder: Any
    prior: Conditional
    posterior: Conditional
    likelihood: Conditional

    def __init__(
        self,
        x_dim: int,
        z_dim: int,
        length: int,
        *,
        hidden: int = 200,
        features: int = 100,
        cell: Any = None,
        transition: Any = None,
        encoder: Any = None,
        decoder: Any = None,
        prior: Conditional | None = None,
        posterior: Conditional | None = None,
        likelihood: Conditional | None = None,
        residual: bool = True,
        impute: str | None = None,
        key: Array,
    ) -> None:
        x_dim, z_dim, length = check_counts(x_dim=x_dim, z_dim=z_dim, length=length)
        hidden, features = check_counts(hidden=hidden, features=features)
        keys = jax.random.split(key, 7)
        self.residual = check_flag("residual", residual)
        check_conditionals(prior=prior, posterior=posterior, likelihood=likelihood)
        self.x_shape, self.z_dim, self.impute = (length, x_dim), z_dim, checked_impute(impute)
        check_cell(cell, x_dim)
        self.cell = cell or GRU(x_dim, hidden, key=keys[0])
        hidden = self.cell.out_dim
        check_network("transition", transition, z_dim + hidden)
        check_network("encoder", encoder, hidden + x_dim)
        check_network("decoder", decoder, z_dim + hidden)
        self.transition = transition or MLP(z_dim + hidden, (features,), key=keys[1])
        self.encoder = encoder or GRU(hidden + x_dim, features, reverse=True, key=keys[2])
        self.decoder = decoder or MLP(z_dim + hidden, (features,), key=keys[3])
        given, inferred = self.transition.out_dim, self.encoder.out_dim
        self.prior = prior or DiagonalNormal(z_dim, context_shape=given, key=keys[4])
        self.posterior = posterior or Combiner(z_dim, inferred, key=keys[5])
        seen = self.decoder.out_dim
        self.likelihood = likelihood or Bernoulli(x_dim, context_shape=seen, key=keys[6])
        check_fit("prior", self.prior, (z_dim,), given)
        check_fit("posterior", self.posterior, (z_dim,), (z_dim, (inferred,)))
        check_fit("likelihood", self.likelihood, (x_dim,), seen)

    def __repr__(self) -> str:
        return outline(self)

    def model(
        self,
        x: Array | None = None,
        lengths: Any = None,
        observed: Array | None = None,
        size: int = 1,
    ) -> Array:
        """Generate `size` sequences, or score the data x (batch, T, x_dim)."""
        size = batch_of(x, self.x_shape, lengths, size)
        own = self._registered("cell", "transition", "prior", "decoder", "likelihood")

        def step(state: dict[str, Array], inputs: Any, x_t: Array | None) -> dict[str, Array]:
            d = own.cell.step(state["x"], state["d"])
            z = numpyro.sample("z", own.prior(own.transition(joined(state["z"], d))))
            x_t = numpyro.sample("x", own.likelihood(own.decoder(joined(z, d))), obs=x_t)
            return {"d": d, "z": z, "x": x_t}

        sizes = {"d": self.cell.out_dim, "z": self.z_dim, "x": self.x_shape[1]}
        with numpyro.plate("data", size):
            path = unroll(
                step,
                {name: jnp.zeros(entries) for name, entries in sizes.items()},
                x,
                length=steps_given(x, self.x_shape)[0],
                lengths=lengths,
                observed=observed,
                impute=self.impute,
            )
        return path.values["x"]

    def guide(
        self,
        x: Array | None = None,
        lengths: Any = None,
        observed: Array | None = None,
        size: int = 1,
    ) -> Array:
        """Infer the path z from the data x (batch, T, x_dim)."""
        x = given_data(x, self.x_shape)
        size = batch_of(x, self.x_shape, lengths, size)
        x = seen_data(x, lengths, observed)
        parts = ("transition", "prior") if self.residual else ()
        own = self._registered("cell", "encoder", "posterior", *parts)
        d = own.cell(previous(x), lengths)
        a = own.encoder(joined(d, x), lengths)

        def step(last: Array, now: tuple[Array, Array], x_t: Array) -> Array:
            found = own.posterior((last, now[1]))
            if self.residual:
                prior = own.prior(own.transition(joined(last, now[0])))
                found = moved(found, mean_of("z", prior))
            return numpyro.sample("z", found)

        with numpyro.plate("data", size):
            path = unroll(step, jnp.zeros(self.z_dim), x, lengths=lengths, inputs=(d, a))
        return path.values["z"]

    def _registered(self, *names: str) -> SimpleNamespace:
        """Some parts of a program, registered."""
        return SimpleNamespace(**{name: register(name, getattr(self, name)) for name in names})
