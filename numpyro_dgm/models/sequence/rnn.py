"""Recurrent network without a latent:  x_t | h_{t-1} ~ likelihood;  h_t = cell(x_t, h_{t-1})."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro
from jax import Array

from dgm_core.arguments import check_counts
from dgm_core.paths import steps_given
from numpyro_dgm.conditionals import Conditional
from numpyro_dgm.conditionals.bernoulli import Bernoulli
from numpyro_dgm.models.parts import check_conditionals, check_fit, check_network, outline
from numpyro_dgm.models.sequence.parts import batch_of, check_cell, checked_impute
from numpyro_dgm.nn import GRU, MLP, register
from numpyro_dgm.sequences import unroll


class RNN(eqx.Module):
    """A recurrent network as a model of sequences, what the models with latent states are compared
    to; trained by `NLL`, its guide draws nothing.

    Site x (T, x_dim), one path, in the plate "data".

    Args:
        x_dim: the features of a step.
        length: T; shorter sequences are padded.
        hidden: of the state h, zero at first.
        features: of the decoder.
        cell: of x_t; `step(x, h)` (default GRU).
        decoder: of h, with an attribute `out_dim` (default MLP of one layer).
        likelihood: of x_t given the decoder's features (default Bernoulli; DiagonalNormal(x_dim,
            context_shape=features) is the Gaussian network, MixturePrior or LogisticMixture that of
            mixtures).
        impute: "draw" or "mean", what stands for a missing x_t (see `unroll`).

    Shapes:
        x (batch, T, x_dim), or of fewer steps; lengths (batch,) of integers from 0 to T, or None;
        observed (batch, T), false where x_t is missing.

    Raises:
        ValueError: if a size, a part, the data or the lengths do not fit.

    Example:
        >>> rnn = RNN(8, 7, hidden=16, features=16, key=jax.random.key(0))
        >>> with numpyro.handlers.seed(rng_seed=0):
        ...     rnn.model(size=5).shape
        (5, 7, 8)
    """

    x_shape: tuple[int, int] = eqx.field(static=True)
    impute: str | None = eqx.field(static=True)
    cell: Any
    decoder: Any
    likelihood: Conditional

    def __init__(
        self,
        x_dim: int,
        length: int,
        *,
        hidden: int = 200,
        features: int = 100,
        cell: Any = None,
        decoder: Any = None,
        likelihood: Conditional | None = None,
        impute: str | None = None,
        key: Array,
    ) -> None:
        x_dim, length, hidden = check_counts(x_dim=x_dim, length=length, hidden=hidden)
        (features,) = check_counts(features=features)
        check_conditionals(likelihood=likelihood)
        check_cell(cell, x_dim)
        keys = jax.random.split(key, 3)
        self.x_shape, self.impute = (length, x_dim), checked_impute(impute)
        self.cell = cell or GRU(x_dim, hidden, key=keys[0])
        check_network("decoder", decoder, self.cell.out_dim)
        self.decoder = decoder or MLP(self.cell.out_dim, (features,), key=keys[1])
        given = self.decoder.out_dim
        self.likelihood = likelihood or Bernoulli(x_dim, context_shape=given, key=keys[2])
        check_fit("likelihood", self.likelihood, (x_dim,), given)

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
        cell, decoder = register("cell", self.cell), register("decoder", self.decoder)
        likelihood = register("likelihood", self.likelihood)

        def step(h: Array, inputs: Any, x_t: Array | None) -> Array:
            return cell.step(numpyro.sample("x", likelihood(decoder(h)), obs=x_t), h)

        with numpyro.plate("data", size):
            path = unroll(
                step,
                jnp.zeros(self.cell.out_dim),
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
    ) -> None:
        """Nothing is latent."""
