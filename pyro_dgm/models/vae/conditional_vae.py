"""Conditional variational autoencoder:  z_n | y_n ~ prior(y_n);  x_n | z_n, y_n ~
likelihood(decoder(z_n, y_n)); q(z_n | x_n, y_n) = posterior(encoder(x_n, y_n)).

The context y_n is a label, an image or any other array; it is given, not modeled.
"""

from collections.abc import Sequence
from typing import Any

import pyro
import torch
from torch import Tensor, nn

from dgm_core.arguments import check_counts, check_sizes, refuse
from dgm_core.contexts import ContextShape, check_context_shape, context_size
from pyro_dgm.conditionals import Bernoulli, Conditional, DiagonalNormal, StandardNormal
from pyro_dgm.models.parts import (
    check_conditionals,
    check_fit,
    check_network,
    features_of,
    paired,
)
from pyro_dgm.nn import MLP, register
from pyro_dgm.nn.contexts import flat


class ConditionalVAE(nn.Module):
    """A variational autoencoder of x given y.

    Args:
        x_dim: the size of a datum.
        z_dim: the size of its code.
        context_shape: of y: `Labels(num_classes)`, a size, a shape, or a tuple of these.
        hidden: the sizes of the encoder's hidden layers, which the decoder has in reverse order.
        encoder: of (x, y) and decoder of (z, y), networks with an attribute `out_dim` (default MLP,
            with hidden[-1] and hidden[0] features).
        prior: of z, without context or given y (default StandardNormal(z_dim)).
        posterior: of z given the encoder's features (default DiagonalNormal(z_dim)).
        likelihood: of x given the decoder's features (default Bernoulli(x_dim)). Sites: z (z_dim,),
            x (x_dim,), in the plate "data".

    Shapes:
        x (batch, x_dim); y (batch, *context_shape), labels (batch,), several a tuple of arrays.

    Raises:
        ValueError: if a size, a conditional, the data or the context do not fit.

    References:
        Sohn, Lee & Yan (2015), NeurIPS 28.

    Example:
        >>> from pyro_dgm.conditionals import Labels
        >>> vae = ConditionalVAE(64, 2, Labels(10))
        >>> vae.model(y=torch.arange(10)).shape
        torch.Size([10, 64])
    """

    def __init__(
        self,
        x_dim: int,
        z_dim: int,
        context_shape: ContextShape,
        *,
        hidden: Sequence[int] = (200, 200),
        encoder: MLP | None = None,
        decoder: MLP | None = None,
        prior: Conditional | None = None,
        posterior: Conditional | None = None,
        likelihood: Conditional | None = None,
    ) -> None:
        super().__init__()
        x_dim, z_dim = check_counts(x_dim=x_dim, z_dim=z_dim)
        shape = check_context_shape("context_shape", context_shape)
        entries = context_size(shape) or refuse("context_shape", "the shape of y", context_shape)
        hidden = check_sizes("hidden", hidden)
        check_network("encoder", encoder, x_dim + entries)
        check_network("decoder", decoder, z_dim + entries)
        check_conditionals(prior=prior, posterior=posterior, likelihood=likelihood)
        self.x_dim, self.z_dim, self.context_shape = x_dim, z_dim, shape
        self.encoder = encoder or MLP(x_dim + entries, hidden)
        self.decoder = decoder or MLP(z_dim + entries, hidden[::-1])
        features = features_of(self.encoder), features_of(self.decoder)
        self.prior = prior or StandardNormal(z_dim)
        self.posterior = posterior or DiagonalNormal(z_dim, context_shape=features[0])
        self.likelihood = likelihood or Bernoulli(x_dim, context_shape=features[1])
        check_fit("prior", self.prior, (z_dim,), 0, shape)
        check_fit("posterior", self.posterior, (z_dim,), features[0])
        check_fit("likelihood", self.likelihood, (x_dim,), features[1])

    def model(self, x: Tensor | None = None, y: Any = None) -> Tensor:
        """Generate one datum for each y, or score the data x (batch, x_dim) given y."""
        context = self.context(y, x)
        prior, decoder = register("prior", self.prior), register("decoder", self.decoder)
        likelihood = register("likelihood", self.likelihood)
        with pyro.plate("data", len(context)):
            z = pyro.sample("z", prior(y if prior.context_shape else None))
            return pyro.sample("x", likelihood(decoder(join(z, context))), obs=x)

    def guide(self, x: Tensor | None = None, y: Any = None) -> Tensor:
        """Infer z from the data x (batch, x_dim) given y."""
        if x is None:
            raise ValueError(
                f"The guide infers z from data: call it with x of shape (batch, {self.x_dim})."
            )
        context = self.context(y, x)
        encoder, posterior = (
            register("encoder", self.encoder),
            register("posterior", self.posterior),
        )
        with pyro.plate("data", len(context)):
            return pyro.sample("z", posterior(encoder(join(x, context))))

    def context(self, y: Any, x: Tensor | None = None) -> Tensor:
        """y as a vector (batch, entries), labels one-hot; checked against x."""
        return flat(paired(y, self.context_shape, x, (self.x_dim,)), self.context_shape)


def join(x: Tensor, context: Tensor) -> Tensor:
    """The concatenation of x (*particles, batch, dim) and context (batch, entries) along the
    last dimension.
    """
    return torch.cat([x, context.expand(*x.shape[:-1], -1)], -1)
