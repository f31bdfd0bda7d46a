"""Restricted Boltzmann machine:  p(v, h) = exp(v^T W h + b^T v + c^T h) / Z,  binary v and h."""

from typing import Any

import pyro
import torch
from pyro import distributions as dist
from torch import Tensor, nn
from torch.nn.functional import softplus

from dgm_core.annealing import AnnealedBounds
from dgm_core.annealing.boltzmann import annealed_boltzmann, check_enumerated, states
from dgm_core.arguments import check_count
from pyro_dgm.conditionals import Conditional, UnnormalizedDistribution
from pyro_dgm.mcmc import Info, Noise, State, start
from pyro_dgm.models.parts import num_data
from pyro_dgm.nn import register

__all__ = ["RBM"]


class RBM(Conditional):
    """A restricted Boltzmann machine, and the energy of its visible units:

    E(v) = -b^T v - sum_j log(1 + exp(c_j + v^T W_j)), the hidden ones summed out.

    Trained by `ContrastiveDivergence("x")`, whose chains take block Gibbs steps, or, where one
    layer is small, by its likelihood: `NLL()` of `normalized(rbm.model, {"x": rbm.log_z()})`
    evaluates it. It is a conditional of binary vectors as well.

    Args:
        num_visible, num_hidden: units.
        num_steps: Gibbs steps from independent bits to a draw.

    Sites: x (num_visible,), in the plate "data".

    Shapes:
        x (batch, num_visible), zeros and ones.

    Raises:
        ValueError: for sizes below 1; by `log_z`, `log_prob` where both layers have more than 20
            units.

    References:
        Smolensky (1986), Information processing in dynamical systems; Hinton (2002), Neural
        Computation 14.

    Example:
        >>> rbm = RBM(4, 2)
        >>> rbm.log_prob(torch.ones(3, 4)).shape, rbm.annealed(steps=20, chains=5).lower.shape
        (torch.Size([3]), (1,))
    """

    def __init__(self, num_visible: int, num_hidden: int, *, num_steps: int = 100) -> None:
        super().__init__(check_count("num_visible", num_visible))
        self.num_hidden = check_count("num_hidden", num_hidden)
        self.num_steps = check_count("num_steps", num_steps)
        self.weight = nn.Parameter(0.01 * torch.randn(num_visible, num_hidden))
        self.visible = nn.Parameter(torch.zeros(num_visible))
        self.hidden = nn.Parameter(torch.zeros(num_hidden))

    def model(self, x: Tensor | None = None, size: int = 1) -> Tensor:
        """Draw `size` data, or observe the data x (batch, num_visible)."""
        rbm = register("rbm", self)
        with pyro.plate("data", num_data(x, self.event_shape, size)):
            return pyro.sample("x", rbm(), obs=x)

    def guide(self, x: Tensor | None = None, size: int = 1) -> None:
        """Nothing: hidden units are summed out."""

    def condition(self, context: Any) -> UnnormalizedDistribution:
        """The distribution of the visible units."""
        base = dist.Bernoulli(logits=self.visible).to_event(1)
        gibbs = BlockGibbs(self.weight, self.visible, self.hidden)
        return UnnormalizedDistribution(self.potential, base, gibbs, self.num_steps)

    def potential(self, v: Tensor) -> Tensor:
        """-E(v), (*batch, num_visible) -> (*batch,)."""
        return v @ self.visible + softplus(self.hidden + v @ self.weight).sum(-1)

    def log_z(self) -> Tensor:
        """ln Z, exactly, by the states of the smaller layer; a number with a gradient."""
        check_enumerated(min(self.weight.shape))
        if self.event_shape[0] <= self.num_hidden:
            return self.potential(self._states(self.event_shape[0])).logsumexp(0)
        h = self._states(self.num_hidden)
        return (h @ self.hidden + softplus(self.visible + h @ self.weight.T).sum(-1)).logsumexp(0)

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x), exactly, (*batch, num_visible) -> (*batch,)."""
        return self.potential(x) - self.log_z()

    def annealed(
        self, *, steps: int = 1000, chains: int = 100, schedule: Any = "linear", seed: int = 0
    ) -> AnnealedBounds:
        """An interval of ln Z by annealed Gibbs steps, forward and reverse."""
        machine = (x.detach().cpu().numpy() for x in (self.weight, self.visible, self.hidden))
        return annealed_boltzmann(
            *machine, steps=steps, chains=chains, schedule=schedule, seed=seed
        )

    def _states(self, num: int) -> Tensor:
        return torch.as_tensor(states(num), dtype=self.weight.dtype, device=self.weight.device)

    def _sizes(self) -> tuple[str, ...]:
        return (str(self.num_hidden),)


class BlockGibbs:
    """A transition kernel: h given v, then v given h, all units of a layer at once."""

    def __init__(self, weight: Tensor, visible: Tensor, hidden: Tensor) -> None:
        self.weight, self.visible, self.hidden = weight, visible, hidden

    def noise(self, state: State) -> Noise:
        """Uniform numbers for both layers."""
        v = state.position
        return Noise(torch.rand_like(v), torch.rand_like(v @ self.weight))

    def __call__(self, log_density: Any, state: State, noise: Noise) -> tuple[State, Info]:
        """One step of both layers."""
        v = state.position
        h = (noise.uniform < torch.sigmoid(self.hidden + v @ self.weight)).to(v.dtype)
        v = (noise.normal < torch.sigmoid(self.visible + h @ self.weight.T)).to(v.dtype)
        one = torch.ones_like(state.log_density)
        return start(log_density, v), Info(one, one > 0, torch.zeros_like(one))
