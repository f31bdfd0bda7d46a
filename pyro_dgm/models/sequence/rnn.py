"""Recurrent network without a latent:  x_t | h_{t-1} ~ likelihood;  h_t = cell(x_t, h_{t-1})."""

from typing import Any

import pyro
from torch import Tensor, nn

from dgm_core.arguments import check_counts
from dgm_core.paths import steps_given
from pyro_dgm.conditionals import Conditional
from pyro_dgm.conditionals.bernoulli import Bernoulli
from pyro_dgm.models.parts import check_conditionals, check_fit, check_network
from pyro_dgm.models.sequence.parts import batch_of, check_cell, checked_impute
from pyro_dgm.nn import GRU, MLP, register
from pyro_dgm.sequences import unroll


class RNN(nn.Module):
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
        >>> RNN(8, 7, hidden=16, features=16).model(size=5).shape
        torch.Size([5, 7, 8])
    """

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
    ) -> None:
        super().__init__()
        x_dim, length, hidden = check_counts(x_dim=x_dim, length=length, hidden=hidden)
        (features,) = check_counts(features=features)
        check_conditionals(likelihood=likelihood)
        check_cell(cell, x_dim)
        self.x_shape, self.impute = (length, x_dim), checked_impute(impute)
        self.cell = cell or GRU(x_dim, hidden)
        check_network("decoder", decoder, self.cell.out_dim)
        self.decoder = decoder or MLP(self.cell.out_dim, (features,))
        given = self.decoder.out_dim
        self.likelihood = likelihood or Bernoulli(x_dim, context_shape=given)
        check_fit("likelihood", self.likelihood, (x_dim,), given)

    def model(
        self,
        x: Tensor | None = None,
        lengths: Any = None,
        observed: Tensor | None = None,
        size: int = 1,
    ) -> Tensor:
        """Generate `size` sequences, or score the data x (batch, T, x_dim)."""
        size = batch_of(x, self.x_shape, lengths, size)
        cell, decoder = register("cell", self.cell), register("decoder", self.decoder)
        likelihood = register("likelihood", self.likelihood)

        def step(h: Tensor, inputs: Any, x_t: Tensor | None) -> Tensor:
            return cell.step(pyro.sample("x", likelihood(decoder(h)), obs=x_t), h)

        with pyro.plate("data", size):
            path = unroll(
                step,
                next(self.parameters()).new_zeros(self.cell.out_dim),
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
    ) -> None:
        """Nothing is latent."""
