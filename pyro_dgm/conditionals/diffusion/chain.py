"""A diffusion as a model and a guide of ordinary sample sites."""

from typing import Any

import pyro
from pyro.distributions import Normal
from torch import Tensor

from dgm_core.diffusion_steps import check_chain, check_event
from pyro_dgm.nn.contexts import spread
from pyro_dgm.nn.register import register

__all__ = ["Chain"]


class Chain:
    """The chain of a diffusion as model and guide, as on the board:

        model  x_T ~ Normal(0, s^2 I);  x_s ~ Normal(data x^ + noisy x_t, variance);  x the last one
        guide  x_T ~ Normal(alpha_T x, sigma_T^2 I);  x_s ~ Normal(data x + noisy x_t, small)

    with the sites "x_T", ..., "x_1" and "x" in the plate "data" and s the level below t, so that
    the stock `ELBO()` works on it: with the value that `DenoisingELBO("x")` has on average.

    Args:
        diffusion: a Diffusion; with levels it has no such chain.
        num_steps: T.

    Attributes:
        model, guide: programs of x (batch, *event) and, where the diffusion has one, its context;
            `model(size=5)` draws.

    Shapes:
        x (batch, *event), context (batch, *context_shape).

    Cost:
        T calls of the network, one behind the other.

    Raises:
        ValueError: for a diffusion with levels, whose last step is no normal distribution.

    Example:
        >>> from pyro_dgm.conditionals import Diffusion
        >>> from pyro_dgm.losses import ELBO
        >>> chain = Diffusion(2, hidden=(8,)).chain(3)
        >>> ELBO()(chain.model, chain.guide, torch.zeros(5, 2)).shape
        torch.Size([])
    """

    def __init__(self, diffusion: Any, num_steps: int) -> None:
        check_chain(diffusion)
        self.diffusion, self.num_steps = diffusion, num_steps

    def model(self, x: Tensor | None = None, context: Any = None, size: int = 1) -> Tensor:
        """Draw `size` data, or score x."""
        net = register("diffusion", self.diffusion)
        num = size if x is None else self._checked(x)
        steps, rank = net.steps(self.num_steps), len(net.event_shape)
        context = net(context).context
        with pyro.plate("data", num):
            y = pyro.sample(
                self._name(self.num_steps),
                Normal(steps.t.new_zeros(num, *net.event_shape), net.schedule.prior_scale).to_event(
                    rank
                ),
            )
            for level in range(self.num_steps, 0, -1):
                mean, scale = self._down(net, y, steps.at(level - 1), context)
                last = level == 1 and net.is_clean
                y = pyro.sample(
                    "x" if last else self._name(level - 1),
                    Normal(mean, scale).to_event(rank),
                    obs=x if last else None,
                )
            if not net.is_clean:
                alpha, sigma = steps.alpha_below[0], steps.sigma_below[0]
                decoder = Normal(y / alpha, sigma / alpha).to_event(rank)
                y = pyro.sample("x", decoder, obs=x)
        return y

    def guide(self, x: Tensor, context: Any = None, size: int = 1) -> None:
        """Noise for x, from the last level down."""
        net = self.diffusion
        if not net.is_clean:
            net = register("diffusion", net)
        self._checked(x)
        steps, rank = net.steps(self.num_steps), len(net.event_shape)
        with pyro.plate("data", len(x)):
            mean, scale = steps.alpha[-1] * x, steps.sigma[-1]
            y = pyro.sample(self._name(self.num_steps), Normal(mean, scale).to_event(rank))
            for level in range(self.num_steps, int(net.is_clean), -1):
                step = steps.at(level - 1)
                mean, scale = step.data * x + step.noisy * y, step.small**0.5
                y = pyro.sample(self._name(level - 1), Normal(mean, scale).to_event(rank))

    def _down(self, net: Any, y: Tensor, step: Any, context: Any) -> tuple[Tensor, Tensor]:
        """Mean and scale of a step down from y, of any batch."""
        batch = y.shape[: y.ndim - len(net.event_shape)]
        x = y.reshape(-1, *net.event_shape)
        step = type(step)(*(part.expand(len(x)) for part in step))
        seen = spread(context, net.context_shape, batch)
        found, raw = net.noise(x, step.t, step.alpha, step.sigma, seen)
        data = (x - net.spread(step.sigma) * found) / net.spread(step.alpha)
        mean = net.spread(step.data) * data + net.spread(step.noisy) * x
        scale = (net.log_variance(step, raw) / 2).exp().expand(x.shape)
        return mean.reshape(y.shape), scale.reshape(y.shape)

    def _checked(self, x: Tensor) -> int:
        if check_event(self.diffusion, x.shape, self.diffusion.event_shape) != 1:
            raise ValueError(
                f"The chain of {self.diffusion} needs data with one batch dimension, got shape "
                f"{tuple(x.shape)}."
            )
        return len(x)

    def _name(self, level: int) -> str:
        return f"x_{level}"

    def __repr__(self) -> str:
        return f"{self.diffusion}.chain({self.num_steps})"
