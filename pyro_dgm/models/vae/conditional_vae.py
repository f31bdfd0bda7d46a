"""Conditional variational autoencoder:  z_n | y_n ~ prior(y_n);  x_n | z_n, y_n ~
likelihood(decoder(z_n, y_n)); q(z_n | x_n, y_n) = posterior(encoder(x_n, y_n)).

The context y_n is a label or an image; it is given, not modeled.
"""

from collections.abc import Sequence

import pyro
import torch
from torch import Tensor, nn

from dgm_core.arguments import check_counts, check_sizes, refuse
from pyro_dgm.conditionals import Bernoulli, Conditional, DiagonalNormal, StandardNormal
from pyro_dgm.models.parts import (
    check_conditionals,
    check_fit,
    check_network,
    features_of,
    num_data,
)
from pyro_dgm.nn import MLP, register, require


class ConditionalVAE(nn.Module):
    """A variational autoencoder of x given y.

    Args:
        x_dim: the size of a datum.
        z_dim: the size of its code.
        context_shape: the number of classes of a label y or the number of entries of any other
            context.
        hidden: the sizes of the encoder's hidden layers, which the decoder has in reverse order.
        encoder: of (x, y) and decoder of (z, y), networks with an attribute `out_dim` (default MLP,
            with hidden[-1] and hidden[0] features).
        prior: of z, without context or given y (default StandardNormal(z_dim)).
        posterior: of z given the encoder's features (default DiagonalNormal(z_dim)).
        likelihood: of x given the decoder's features (default Bernoulli(x_dim)). Sites: z (z_dim,),
            x (x_dim,), in the plate "data".

    Shapes:
        x (batch, x_dim); y (batch,) integer labels, or (batch, ...) with that many entries each:
        one-hot labels, images, anything.

    Raises:
        ValueError: if a size, a conditional, the data or the context do not fit.

    References:
        Sohn, Lee & Yan (2015), NeurIPS 28.

    Example:
        >>> vae = ConditionalVAE(64, 2, 10)
        >>> vae.model(y=torch.arange(10)).shape
        torch.Size([10, 64])
    """

    def __init__(
        self,
        x_dim: int,
        z_dim: int,
        context_shape: int,
        *,
        hidden: Sequence[int] = (200, 200),
        encoder: MLP | None = None,
        decoder: MLP | None = None,
        prior: Conditional | None = None,
        posterior: Conditional | None = None,
        likelihood: Conditional | None = None,
    ) -> None:
        super().__init__()
        x_dim, z_dim, entries = check_counts(x_dim=x_dim, z_dim=z_dim, context_shape=context_shape)
        hidden = check_sizes("hidden", hidden)
        check_network("encoder", encoder, x_dim + entries)
        check_network("decoder", decoder, z_dim + entries)
        check_conditionals(prior=prior, posterior=posterior, likelihood=likelihood)
        self.x_dim, self.z_dim, self.context_shape = x_dim, z_dim, (entries,)
        self.encoder = encoder or MLP(x_dim + entries, hidden)
        self.decoder = decoder or MLP(z_dim + entries, hidden[::-1])
        features = features_of(self.encoder), features_of(self.decoder)
        self.prior = prior or StandardNormal(z_dim)
        self.posterior = posterior or DiagonalNormal(z_dim, context_shape=features[0])
        self.likelihood = likelihood or Bernoulli(x_dim, context_shape=features[1])
        check_fit("prior", self.prior, (z_dim,), 0, entries)
        check_fit("posterior", self.posterior, (z_dim,), features[0])
        check_fit("likelihood", self.likelihood, (x_dim,), features[1])

    def model(self, x: Tensor | None = None, y: Tensor | None = None) -> Tensor:
        """Generate one datum for each y, or score the data x (batch, x_dim) given y."""
        context = self.context(y, x)
        prior, decoder = register("prior", self.prior), register("decoder", self.decoder)
        likelihood = register("likelihood", self.likelihood)
        with pyro.plate("data", len(context)):
            z = pyro.sample("z", prior(context if prior.context_shape else None))
            return pyro.sample("x", likelihood(decoder(join(z, context))), obs=x)

    def guide(self, x: Tensor | None = None, y: Tensor | None = None) -> Tensor:
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

    def context(self, y: Tensor | None, x: Tensor | None = None) -> Tensor:
        """The context as an array (batch, entries): labels one-hot, all else flattened; checked
        against x.
        """
        if y is None:
            raise ValueError(
                "A conditional VAE needs y: labels (batch,), or an array (batch, ...)."
            )
        (entries,) = self.context_shape
        wanted = (
            "integer labels of shape (batch,), or of shape (batch, ...) with "
            f"{entries} entries each"
        )
        if not hasattr(y, "dtype") or y.ndim == 0:
            refuse("y", wanted, y)
        size = num_data(x, (self.x_dim,), len(y))
        if size != len(y):
            raise ValueError(f"x and y must have the same number of data, got {size} and {len(y)}.")
        if y.ndim == 1 and not y.is_floating_point():
            good = (y >= 0) & (y < entries)
            require("y", f"labels from 0 to {entries - 1}", y, good)
            y = y[:, None] == torch.arange(entries, device=y.device)
        context = y.reshape(len(y), -1)
        if y.ndim < 2 or context.shape[1] != entries:
            raise ValueError(f"y must be {wanted}, got shape {tuple(y.shape)} and type {y.dtype}.")
        return context.to(next(self.parameters()).dtype)


def join(x: Tensor, context: Tensor) -> Tensor:
    """The concatenation of x (*particles, batch, dim) and context (batch, entries) along the
    last dimension.
    """
    return torch.cat([x, context.expand(*x.shape[:-1], -1)], -1)
