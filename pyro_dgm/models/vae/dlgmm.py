"""Deep latent Gaussian mixture:  vk_n ~ Beta(1, concentration), or with `symmetric`
Beta(concentration, (K - k) concentration);  y_n ~ Categorical(stick(v_n)), stick(v)_k = v_k
(1 - v_1) ... (1 - v_(k-1));  z_n | y_n ~ prior(y_n);  x_n | z_n ~ likelihood(decoder(z_n)).

The guide has q(v_n | x_n) = Kumaraswamy(sticks(x_n)), q(y_n | v_n) = p(y_n | v_n) and q(z_n | x_n,
y_n) = posterior(encoder(x_n, y_n)).
"""

from collections.abc import Sequence

import numpy as np
import pyro
import torch
from pyro import distributions as dist
from torch import Tensor, nn

from dgm_core.arguments import check_count, check_counts, check_flag, check_number, check_sizes
from dgm_core.contexts import Labels
from dgm_core.mixtures import raw_scale
from pyro_dgm.conditionals import Bernoulli, Conditional, DiagonalNormal, Kumaraswamy
from pyro_dgm.models.parts import check_conditionals, check_fit, num_data
from pyro_dgm.models.semi_supervised.labels import seen_by
from pyro_dgm.nn import MLP, register


class DLGMM(nn.Module):
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
        >>> DLGMM(64, 2, 10, hidden=(100,)).model(size=5).shape
        torch.Size([5, 64])
    """

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
    ) -> None:
        super().__init__()
        x_dim, z_dim = check_counts(x_dim=x_dim, z_dim=z_dim)
        num_classes = check_count("num_classes", num_classes, 2)
        hidden = check_sizes("hidden", hidden, least=1)
        check_conditionals(prior=prior, likelihood=likelihood)
        self.x_dim, self.z_dim, self.num_classes = x_dim, z_dim, num_classes
        self.concentration = float(check_number("concentration", concentration, above=0))
        self.symmetric = check_flag("symmetric", symmetric)
        self.encoder = MLP(x_dim + num_classes, hidden)
        self.decoder = MLP(z_dim, hidden[::-1])
        self.stick_encoder = MLP(x_dim, hidden)
        self.sticks = Kumaraswamy(num_classes - 1, context_shape=hidden[-1])
        start = raw_scale(np.concatenate(self._breaks()), self.sticks.floor)
        with torch.no_grad():
            self.sticks.head.bias.copy_(torch.as_tensor(start))
        self.posterior = DiagonalNormal(z_dim, context_shape=hidden[-1])
        self.prior = prior or DiagonalNormal(z_dim, context_shape=Labels(num_classes))
        self.likelihood = likelihood or Bernoulli(x_dim, context_shape=hidden[0])
        check_fit("prior", self.prior, (z_dim,), Labels(num_classes))
        check_fit("likelihood", self.likelihood, (x_dim,), hidden[0])

    def _breaks(self) -> tuple[np.ndarray, np.ndarray]:
        """Both concentrations of the prior of v."""
        one = np.ones(self.num_classes - 1)
        if not self.symmetric:
            return one, self.concentration * one
        return self.concentration * one, self.concentration * np.arange(len(one), 0.0, -1.0)

    def model(self, x: Tensor | None = None, size: int = 1) -> Tensor:
        """Generate `size` data, or score the data x (batch, x_dim)."""
        prior, decoder = register("prior", self.prior), register("decoder", self.decoder)
        likelihood = register("likelihood", self.likelihood)
        weight = next(self.parameters())
        odd, even = (weight.new_tensor(part) for part in self._breaks())
        with pyro.plate("data", num_data(x, (self.x_dim,), size)):
            v = pyro.sample("v", dist.Beta(odd, even).to_event(1))
            y = pyro.sample("y", dist.Categorical(logits=broken(v)))
            z = pyro.sample("z", prior(y))
            return pyro.sample("x", likelihood(decoder(z)), obs=x)

    def guide(self, x: Tensor | None = None, size: int = 1) -> Tensor:
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
        with pyro.plate("data", num_data(x, (self.x_dim,), size)):
            v = pyro.sample("v", sticks(stick_encoder(x)))
            y = pyro.sample("y", dist.Categorical(logits=broken(v)))
            return pyro.sample("z", posterior(seen_by(encoder, self.num_classes, y, x)))


def broken(v: Tensor) -> Tensor:
    """The logarithms of the pieces of a stick that is broken at v (*batch, K - 1): (*batch, K)."""
    rest = torch.log1p(-v).cumsum(-1)
    left = torch.cat([torch.zeros_like(v[..., :1]), rest], -1)
    return left + torch.cat([v.log(), torch.zeros_like(v[..., :1])], -1)
