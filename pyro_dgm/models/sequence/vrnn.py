"""Variational recurrent network:  z_t | h_{t-1} ~ prior;  x_t | z_t, h_{t-1} ~ likelihood;
h_t = cell(x_t, z_t, h_{t-1});  q(z_t | x_t, h_{t-1}) = posterior.

All of them read the state through networks; with a prior that reads nothing, StandardNormal, it is
the ablation VRNN-I.
"""

from types import SimpleNamespace
from typing import Any

import pyro
import torch
from torch import Tensor, nn

from dgm_core.arguments import check_counts
from dgm_core.paths import steps_given
from pyro_dgm.conditionals import Conditional, DiagonalNormal
from pyro_dgm.conditionals.bernoulli import Bernoulli
from pyro_dgm.models.parts import check_conditionals, check_fit, check_network
from pyro_dgm.models.sequence.parts import (
    batch_of,
    check_cell,
    checked_impute,
    given_data,
    joined,
    mean_of,
)
from pyro_dgm.nn import GRU, MLP, register
from pyro_dgm.sequences import unroll


class VRNN(nn.Module):
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
        >>> VRNN(8, 2, 7, hidden=16, features=16).model(size=5).shape
        torch.Size([5, 7, 8])
    """

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
    ) -> None:
        super().__init__()
        x_dim, z_dim, length = check_counts(x_dim=x_dim, z_dim=z_dim, length=length)
        hidden, features = check_counts(hidden=hidden, features=features)
        check_network("embed_x", embed_x, x_dim)
        check_network("embed_z", embed_z, z_dim)
        check_conditionals(prior=prior, posterior=posterior, likelihood=likelihood)
        self.x_shape, self.impute = (length, x_dim), checked_impute(impute)
        self.embed_x = embed_x or MLP(x_dim, (features,))
        self.embed_z = embed_z or MLP(z_dim, (features,))
        of_x, of_z = self.embed_x.out_dim, self.embed_z.out_dim
        check_cell(cell, of_x + of_z)
        self.cell = cell or GRU(of_x + of_z, hidden)
        hidden = self.cell.out_dim
        check_network("transition", transition, hidden)
        check_network("encoder", encoder, of_x + hidden)
        check_network("decoder", decoder, of_z + hidden)
        reads = prior is None or bool(prior.context_shape)
        self.transition = (transition or MLP(hidden, (features,))) if reads else None
        self.encoder = encoder or MLP(of_x + hidden, (features,))
        self.decoder = decoder or MLP(of_z + hidden, (features,))
        given = self.transition.out_dim if self.transition is not None else 0
        inferred, seen = self.encoder.out_dim, self.decoder.out_dim
        self.prior = prior or DiagonalNormal(z_dim, context_shape=given)
        self.posterior = posterior or DiagonalNormal(z_dim, context_shape=inferred)
        self.likelihood = likelihood or Bernoulli(x_dim, context_shape=seen)
        check_fit("prior", self.prior, (z_dim,), given)
        check_fit("posterior", self.posterior, (z_dim,), inferred)
        check_fit("likelihood", self.likelihood, (x_dim,), seen)

    def model(
        self,
        x: Tensor | None = None,
        lengths: Any = None,
        observed: Tensor | None = None,
        size: int = 1,
    ) -> Tensor:
        """Generate `size` sequences, or score the data x (batch, T, x_dim)."""
        size, own = batch_of(x, self.x_shape, lengths, size), self._registered(*MODEL)

        def step(h: Tensor, inputs: Any, x_t: Tensor | None) -> Tensor:
            z = pyro.sample("z", _prior(own, h))
            x_t = pyro.sample("x", _likelihood(own, z, h), obs=x_t)
            return _after(own, x_t, z, h)

        with pyro.plate("data", size):
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
        x: Tensor | None = None,
        lengths: Any = None,
        observed: Tensor | None = None,
        size: int = 1,
    ) -> Tensor:
        """Infer the path z from the data x (batch, T, x_dim)."""
        x = given_data(x, self.x_shape)
        size = batch_of(x, self.x_shape, lengths, size)
        seen = None if observed is None else observed[..., None]
        own = self._registered(*GUIDE, *(() if seen is None else MODEL))

        def step(h: Tensor, known: Tensor | None, x_t: Tensor) -> Tensor:
            if known is not None:
                x_t = torch.where(known, x_t, _expected(own, h))
            z = pyro.sample("z", _posterior(own, x_t, h))
            return _after(own, x_t, z, h)

        with pyro.plate("data", size):
            path = unroll(step, self._start(), x, lengths=lengths, observed=observed, inputs=seen)
        return path.values["z"]

    def _registered(self, *names: str) -> SimpleNamespace:
        """Some parts of a program, registered."""
        parts = {name: getattr(self, name) for name in ("embed_x", "embed_z", "cell", *names)}
        found = {name: part and register(name, part) for name, part in parts.items()}
        return SimpleNamespace(**found)

    def _start(self) -> Tensor:
        return next(self.parameters()).new_zeros(self.cell.out_dim)


MODEL = "transition", "prior", "decoder", "likelihood"
GUIDE = "encoder", "posterior"


def _prior(own: Any, h: Tensor) -> Any:
    return own.prior(None if own.transition is None else own.transition(h))


def _likelihood(own: Any, z: Tensor, h: Tensor) -> Any:
    return own.likelihood(own.decoder(joined(own.embed_z(z), h)))


def _posterior(own: Any, x: Tensor, h: Tensor) -> Any:
    return own.posterior(own.encoder(joined(own.embed_x(x), h)))


def _after(own: Any, x: Tensor, z: Tensor, h: Tensor) -> Tensor:
    return own.cell.step(joined(own.embed_x(x), own.embed_z(z)), h)


def _expected(own: Any, h: Tensor) -> Tensor:
    """What the guide takes a missing x_t to be."""
    return mean_of("x", _likelihood(own, mean_of("z", _prior(own, h)), h))
