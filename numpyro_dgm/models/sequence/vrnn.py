"""Variational recurrent network:  z_t | h_{t-1} ~ prior;  x_t | z_t, h_{t-1} ~ likelihood;
h_t = cell(x_t, z_t, h_{t-1});  q(z_t | x_t, h_{t-1}) = posterior.

All of them read the state through networks; with a prior that reads nothing, StandardNormal, it is
the ablation VRNN-I.
"""

from types import SimpleNamespace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro
from jax import Array

from dgm_core.arguments import check_counts
from dgm_core.paths import steps_given
from numpyro_dgm.conditionals import Conditional, DiagonalNormal
from numpyro_dgm.conditionals.bernoulli import Bernoulli
from numpyro_dgm.models.parts import check_conditionals, check_fit, check_network, outline
from numpyro_dgm.models.sequence.parts import (
    batch_of,
    check_cell,
    checked_impute,
    given_data,
    joined,
    mean_of,
)
from numpyro_dgm.nn import GRU, MLP, register
from numpyro_dgm.sequences import unroll


class VRNN(eqx.Module):
    """A variational recurrent network (Chung et al. 2015), written as one step.

    Sites z (T, z_dim), x (T, x_dim), each one path, in the plate "data". The guide is a filter: its
    z_t sees x_1, ..., x_t and z_1, ..., z_{t-1}.

    Args:
        x_dim: the features of a step.
        z_dim: of z_t.
        length: T; shorter sequences are padded.
        hidden: of the state h, zero at first.
        features: of the networks.
        embed_x, embed_z: of x_t and z_t, with an attribute `out_dim` (default MLP of one layer).
        transition, encoder, decoder: of h; of x_t's features beside h; of z_t's features beside
            h: what prior, posterior and likelihood read (default MLP of one layer).
        cell: of the features of x_t beside those of z_t; `step(features, h)` (default GRU).
        prior: of z_t given the transition's features, or nothing: VRNN-I is
            `prior=StandardNormal(z_dim)` (default DiagonalNormal).
        posterior: of z_t given the encoder's features (default DiagonalNormal).
        likelihood: of x_t given the decoder's features (default Bernoulli).
        impute: "draw" or "mean", what stands for a missing x_t in the model (see `unroll`).

    Shapes:
        x (batch, T, x_dim), or of fewer steps; lengths (batch,) of integers from 0 to T, or None;
        observed (batch, T), false where x_t is missing, which the guide takes to be the mean of the
        likelihood at the mean of the prior.

    Raises:
        ValueError: if a size, a part, the data or the lengths do not fit.

    References:
        Chung, Kastner, Dinh, Goel, Courville & Bengio (2015), arXiv:1506.02216.

    Example:
        >>> vrnn = VRNN(8, 2, 7, hidden=16, features=16, key=jax.random.key(0))
        >>> with numpyro.handlers.seed(rng_seed=0):
        ...     vrnn.model(size=5).shape
        (5, 7, 8)
    """

    x_shape: tuple[int, int] = eqx.field(static=True)
    impute: str | None = eqx.field(static=True)
    embed_x: Any
    embed_z: Any
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
        embed_x: Any = None,
        embed_z: Any = None,
        transition: Any = None,
        encoder: Any = None,
        decoder: Any = None,
        cell: Any = None,
        prior: Conditional | None = None,
        posterior: Conditional | None = None,
        likelihood: Conditional | None = None,
        impute: str | None = None,
        key: Array,
    ) -> None:
        x_dim, z_dim, length = check_counts(x_dim=x_dim, z_dim=z_dim, length=length)
        hidden, features = check_counts(hidden=hidden, features=features)
        check_network("embed_x", embed_x, x_dim)
        check_network("embed_z", embed_z, z_dim)
        check_conditionals(prior=prior, posterior=posterior, likelihood=likelihood)
        keys = jax.random.split(key, 9)
        self.x_shape, self.impute = (length, x_dim), checked_impute(impute)
        self.embed_x = embed_x or MLP(x_dim, (features,), key=keys[0])
        self.embed_z = embed_z or MLP(z_dim, (features,), key=keys[1])
        of_x, of_z = self.embed_x.out_dim, self.embed_z.out_dim
        check_cell(cell, of_x + of_z)
        self.cell = cell or GRU(of_x + of_z, hidden, key=keys[2])
        hidden = self.cell.out_dim
        check_network("transition", transition, hidden)
        check_network("encoder", encoder, of_x + hidden)
        check_network("decoder", decoder, of_z + hidden)
        reads = prior is None or bool(prior.context_shape)
        self.transition = (transition or MLP(hidden, (features,), key=keys[3])) if reads else None
        self.encoder = encoder or MLP(of_x + hidden, (features,), key=keys[4])
        self.decoder = decoder or MLP(of_z + hidden, (features,), key=keys[5])
        given = self.transition.out_dim if self.transition is not None else 0
        inferred, seen = self.encoder.out_dim, self.decoder.out_dim
        self.prior = prior or DiagonalNormal(z_dim, context_shape=given, key=keys[6])
        self.posterior = posterior or DiagonalNormal(z_dim, context_shape=inferred, key=keys[7])
        self.likelihood = likelihood or Bernoulli(x_dim, context_shape=seen, key=keys[8])
        check_fit("prior", self.prior, (z_dim,), given)
        check_fit("posterior", self.posterior, (z_dim,), inferred)
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
        size, own = batch_of(x, self.x_shape, lengths, size), self._registered(*MODEL)

        def step(h: Array, inputs: Any, x_t: Array | None) -> Array:
            z = numpyro.sample("z", _prior(own, h))
            x_t = numpyro.sample("x", _likelihood(own, z, h), obs=x_t)
            return _after(own, x_t, z, h)

        with numpyro.plate("data", size):
            path = unroll(
                step,
                self._start(),
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
        seen = None if observed is None else observed[..., None]
        own = self._registered(*GUIDE, *(() if seen is None else MODEL))

        def step(h: Array, known: Array | None, x_t: Array) -> Array:
            if known is not None:
                x_t = jnp.where(known, x_t, _expected(own, h))
            z = numpyro.sample("z", _posterior(own, x_t, h))
            return _after(own, x_t, z, h)

        with numpyro.plate("data", size):
            path = unroll(step, self._start(), x, lengths=lengths, observed=observed, inputs=seen)
        return path.values["z"]

    def _registered(self, *names: str) -> SimpleNamespace:
        """Some parts of a program, registered."""
        parts = {name: getattr(self, name) for name in ("embed_x", "embed_z", "cell", *names)}
        found = {name: part and register(name, part) for name, part in parts.items()}
        return SimpleNamespace(**found)

    def _start(self) -> Array:
        return jnp.zeros(self.cell.out_dim)


MODEL = "transition", "prior", "decoder", "likelihood"
GUIDE = "encoder", "posterior"


def _prior(own: Any, h: Array) -> Any:
    return own.prior(None if own.transition is None else own.transition(h))


def _likelihood(own: Any, z: Array, h: Array) -> Any:
    return own.likelihood(own.decoder(joined(own.embed_z(z), h)))


def _posterior(own: Any, x: Array, h: Array) -> Any:
    return own.posterior(own.encoder(joined(own.embed_x(x), h)))


def _after(own: Any, x: Array, z: Array, h: Array) -> Array:
    return own.cell.step(joined(own.embed_x(x), own.embed_z(z)), h)


def _expected(own: Any, h: Array) -> Array:
    """What the guide takes a missing x_t to be."""
    return mean_of("x", _likelihood(own, mean_of("z", _prior(own, h)), h))
