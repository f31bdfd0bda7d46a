"""Ladder variational autoencoder:  zL_n ~ Normal(0, I);  zl_n | zm_n ~
priors[l](decoders[l](zm_n)), m = l + 1;  x_n | z1_n ~ likelihood(decoder(z1_n)).

The guide runs up, d_l = encoders[l](d_(l-1)) from d_0 = x, and then down: q(zL_n | x_n) =
evidence[L](d_L), q(zl_n | zm_n, x_n) = merge(evidence[l](d_l), p(zl_n | zm_n)), the product.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pyro
from torch import Tensor, nn

from dgm_core.arguments import check_count, check_sizes
from pyro_dgm.conditionals import Bernoulli, Conditional, DiagonalNormal, StandardNormal, merge
from pyro_dgm.models.parts import check_conditionals, check_fit, num_data
from pyro_dgm.nn import MLP, register


class LadderVAE(nn.Module):
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
        >>> LadderVAE(64, (8, 2), hidden=(100,)).model(size=5).shape
        torch.Size([5, 64])
    """

    def __init__(
        self,
        x_dim: int,
        z_dims: Sequence[int],
        *,
        hidden: Sequence[int] = (200, 200),
        likelihood: Conditional | None = None,
    ) -> None:
        super().__init__()
        x_dim, z_dims = check_count("x_dim", x_dim), check_sizes("z_dims", z_dims, least=1)
        hidden = check_sizes("hidden", hidden)
        check_conditionals(likelihood=likelihood)
        self.x_dim, self.z_dims = x_dim, z_dims
        last = hidden[-1] if hidden else x_dim  # what each encoder gives
        sizes = [x_dim, *[last] * (len(z_dims) - 1)]
        self.encoders = nn.ModuleList(MLP(size, hidden) for size in sizes)
        self.evidence = nn.ModuleList(DiagonalNormal(z, context_shape=last) for z in z_dims)
        self.decoders = nn.ModuleList(MLP(z, hidden) for z in z_dims[1:])
        self.priors = nn.ModuleList(
            DiagonalNormal(z, context_shape=hidden[-1] if hidden else above)
            for z, above in pairwise(z_dims)
        )
        self.prior = StandardNormal(z_dims[-1])
        self.decoder = MLP(z_dims[0], hidden[::-1])
        features = self.decoder.out_dim
        self.likelihood = likelihood or Bernoulli(x_dim, context_shape=features)
        check_fit("likelihood", self.likelihood, (x_dim,), features)

    def __repr__(self) -> str:
        return f"LadderVAE({self.x_dim}, {self.z_dims}, likelihood={self.likelihood!r})"

    def model(self, x: Tensor | None = None, size: int = 1) -> Tensor:
        """Generate `size` data, or score the data x (batch, x_dim)."""
        down = self._down()
        decoder = register("decoder", self.decoder)
        likelihood = register("likelihood", self.likelihood)
        with pyro.plate("data", num_data(x, (self.x_dim,), size)):
            z = pyro.sample(f"z{len(self.z_dims)}", register("prior", self.prior)())
            for layer, (network, prior) in down:
                z = pyro.sample(f"z{layer}", prior(network(z)))
            return pyro.sample("x", likelihood(decoder(z)), obs=x)

    def guide(self, x: Tensor | None = None, size: int = 1) -> Tensor:
        """Infer zL, ..., z1 from the data x (batch, x_dim)."""
        if x is None:
            raise ValueError(
                f"The guide infers z1 from data: call it with x of shape (batch, {self.x_dim})."
            )
        parts: Any = (self.encoders, self.evidence)
        encoders, evidence = register("encoders", parts[0]), register("evidence", parts[1])
        down = self._down()
        with pyro.plate("data", num_data(x, (self.x_dim,), size)):
            found, features = [], x
            for encoder, own in zip(encoders, evidence):
                features = encoder(features)
                found.append(own(features))
            z = pyro.sample(f"z{len(self.z_dims)}", found[-1])
            for layer, (network, prior) in down:
                z = pyro.sample(f"z{layer}", merge(found[layer - 1], prior(network(z))))
            return z

    def _down(self) -> list[tuple[int, tuple[MLP, Conditional]]]:
        """The layers below the top, from there on: their number, network and prior."""
        decoders: Any = self.decoders
        priors: Any = self.priors
        parts = zip(register("decoders", decoders), register("priors", priors))
        return list(enumerate(parts, 1))[::-1]
