"""Model/guide pairs that know nothing of this package, for the tests of the Pyro training loop."""

from collections.abc import Callable

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions import constraints


def density(loc: float = 0.0) -> tuple[Callable, None]:
    """x_n ~ Normal(mean, scale) with two free parameters and no latent site: a loss without any
    randomness.
    """

    def model(x: Tensor) -> None:
        mean = pyro.param("mean", torch.tensor(loc))
        scale = pyro.param("scale", torch.tensor(1.0), constraint=constraints.positive)
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(mean, scale), obs=x)

    return model, None


class Network(nn.Module):
    """A small VAE with everything that has a state: drop-out and batch normalization."""

    def __init__(self, rate: float = 0.2) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(6, 8, bias=False),
            nn.BatchNorm1d(8),
            nn.Tanh(),
            nn.Dropout(rate),
            nn.Linear(8, 4),
        )
        self.decoder = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 6))

    def model(self, x: Tensor) -> None:
        pyro.module("decoder", self.decoder)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=self.decoder(z)).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", len(x)):
            loc, log_scale = self.encoder(x).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))


def regression(num_data: int) -> Callable:
    """w ~ Normal(0, I), y_n ~ Normal(w . x_n, 0.5), in a plate that declares all the data."""

    def model(x: Tensor, y: Tensor) -> None:
        w = pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        with pyro.plate("data", num_data, subsample_size=len(x)):
            pyro.sample("y", dist.Normal((x * w).sum(-1), 0.5), obs=y)

    return model


def regression_data(num_data: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x, y, and the exact posterior of w: mean and standard deviations."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(num_data, 2, generator=generator)
    y = x @ torch.tensor([1.0, -2.0]) + 0.5 * torch.randn(num_data, generator=generator)
    precision = torch.eye(2) + x.T @ x / 0.25
    return x, y, torch.linalg.solve(precision, x.T @ y / 0.25), precision.diagonal() ** -0.5


def binary(num_data: int, dim: int = 6, seed: int = 0) -> Tensor:
    """Binary vectors of two kinds."""
    generator = torch.Generator().manual_seed(seed)
    probs = torch.tensor([0.9, 0.1])[torch.randint(2, (num_data, 1), generator=generator)]
    return torch.bernoulli(probs.expand(num_data, dim), generator=generator)
