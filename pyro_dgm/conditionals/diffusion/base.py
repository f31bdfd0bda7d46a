"""Diffusions as conditional distributions.

x_1 ~ Normal(0, s^2 I), undone step by step by a network that tells x_t = alpha_t x + sigma_t eps
apart into datum and noise.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dgm_core.arguments import check_count, check_fraction, check_number
from dgm_core.contexts import ContextShape, context_size
from dgm_core.diffusion import Linear, NoiseSchedule, chain_steps
from dgm_core.diffusion_draws import check_sampling, draw_steps
from dgm_core.diffusion_steps import (
    Steps,
    check_kind,
    check_net,
    check_output,
    check_schedule,
    guidance,
    no_null,
    output_shape,
    seen_shape,
)
from pyro_dgm.conditionals.base import Conditional
from pyro_dgm.conditionals.diffusion.chain import Chain
from pyro_dgm.conditionals.diffusion.distribution import DiffusionDistribution
from pyro_dgm.conditionals.diffusion.schedules import LearnedSchedule, steps_of
from pyro_dgm.nn.contexts import batch_shape_of, unflat
from pyro_dgm.nn.time_features import TimeFeatures
from pyro_dgm.nn.time_mlp import TimeMLP
from pyro_dgm.nn.unet import UNet

__all__ = ["Diffusion"]


class Diffusion(Conditional):
    """A diffusion p(x | c):  noise is added to a datum, x_t = alpha_t x + sigma_t eps, until
    nothing is left of it, and a network learns to undo each step.

    As a chain of T steps it is  x_T ~ Normal(0, s^2 I),  x_s | x_t ~ Normal(data x^ + noisy x_t,
    variance),  s the level below t, with the posterior's coefficients at the network's estimate x^
    of the datum. In continuous time it is the flow of an ordinary differential equation, whose
    density `log_prob` is. Train it by `DenoisingELBO`, a bound, or `DenoisingError`.

    Args:
        dim: the size of x or its shape, an image (channels, height, width).
        net: called `net(x, t)` or, with a context, `net(x, t, context)`, for x (batch, *dim), t
            (batch,) in [0, 1] and contexts with labels one-hot; gives an array like x, with
            variance="learned" twice as many entries or channels (default a TimeMLP, of images a
            UNet).
        schedule: Linear(1000), Cosine(T), VP(T), SubVP(T), VE(T), LearnedSchedule(T); those without
            T are in continuous time.
        predict: what the network gives: "noise" eps, "data" x, "velocity" alpha eps - sigma x, or
            "score", -eps / sigma.
        variance: of a step down: "small", the posterior's, at level 1 (where that is 0) as at level
            2; "large", that of a step up; "learned", between both by the network; "optimal", small
            + data^2 V_t with the error V_t of the network, a parameter for each level.
        data_variance: of the entries of x, at which V_t begins: it is exact for Normal(0,
            data_variance) data.  The default network is given x_t / (alpha_t^2 data_variance +
            sigma_t^2)^1/2.
        num_levels: K: x has the levels 0, 1 / (K - 1), ..., 1, decoded by the mass between the
            middles; None for real x.
        hidden: of the default network.
        method, num_steps, eta: of draws, as in `sample`.
        ode_steps: Runge-Kutta steps, of four calls each, of log_prob and of method="ode".
        drop_context: how often training leaves the context out, for `guided`.
        context_shape: 0 = unconditional.

    Shapes:
        context (*batch, *context_shape) -> batch_shape (*batch,), event_shape dim.

    Cost:
        a bound one call of the network; a draw one for each step; log_prob 4 ode_steps, each with
        its divergence: exact with D products up to D = 64, by 8 random ones beyond.

    Raises:
        ValueError: for unknown options, a network that gives other shapes, a context left out that
            the network never learns to miss.

    References:
        Ho, Jain & Abbeel (2020), arXiv:2006.11239; Song et al. (2021), arXiv:2011.13456; Nichol &
        Dhariwal (2021), arXiv:2102.09672; Bao et al. (2022), arXiv:2201.06503.

    Example:
        >>> from pyro_dgm.losses import DenoisingELBO
        >>> prior = Diffusion(2, schedule=Linear(100), hidden=(8,))
        >>> prior().sample((5,), method="ddim", num_steps=4).shape
        torch.Size([5, 2])
    """

    def __init__(
        self,
        dim: int | tuple[int, ...],
        net: Any = None,
        *,
        schedule: NoiseSchedule | LearnedSchedule | None = None,
        predict: str = "noise",
        variance: str = "small",
        data_variance: float = 1.0,
        num_levels: int | None = None,
        hidden: Sequence[int] = (128, 128),
        method: str = "ancestral",
        num_steps: int | None = None,
        eta: float = 0.0,
        ode_steps: int = 20,
        drop_context: float = 0.0,
        context_shape: ContextShape = 0,
    ) -> None:
        super().__init__(dim, context_shape=context_shape)
        schedule = Linear(1000) if schedule is None else schedule
        check_schedule(schedule, (NoiseSchedule, LearnedSchedule), variance)
        learned = isinstance(schedule, LearnedSchedule)
        self.own_schedule: Any = None if learned else schedule
        self.learned_schedule: Any = schedule if learned else None
        check_kind(predict, variance)
        self.predict, self.variance = predict, variance
        self.data_variance = check_number("data_variance", data_variance, above=0)
        self.num_levels = None if num_levels is None else check_count("num_levels", num_levels, 2)
        self.method, self.eta = method, check_sampling(method, eta)
        self.num_steps = num_steps
        if num_steps is not None:
            draw_steps(self, method, num_steps)
        self.ode_steps = check_count("ode_steps", ode_steps)
        self.drop_context = check_fraction("drop_context", drop_context)
        entries = context_size(self.context_shape)
        if self.drop_context and not entries:
            raise ValueError(no_null(self, "drop_context > 0"))
        self.null: Any = nn.Parameter(torch.zeros(entries)) if self.drop_context else None
        levels = variance == "optimal" and self.schedule.num_steps is not None
        self.errors = nn.Parameter(torch.zeros(self.schedule.num_steps)) if levels else None
        shape = output_shape(self.event_shape, variance)
        self.scaled, own = net is None, seen_shape(self.context_shape)
        if net is None:
            net = default_net(self.event_shape, shape, hidden, own)
        check_net(net, self.context_shape)
        self.net = net

    def condition(self, context: Any) -> DiffusionDistribution:
        """The distribution given a checked context."""
        batch = batch_shape_of(context, self.context_shape)
        return DiffusionDistribution(self, context, batch)

    def guided(
        self, context: Any, w: float | None = None, *, scale: float | None = None
    ) -> DiffusionDistribution:
        """Classifier-free guidance, to be drawn from alone: noise as predicted with (c) and without
        (u) the context becomes  (1 + w) c - w u  with `w` (Ho & Salimans 2022),  u + scale (c - u)
        with `scale`, which is 1 + w.

        Raises:
            ValueError: without exactly one of both, and where `drop_context` is 0.
        """
        p, scale = self(context), guidance(w, scale)
        if self.null is None:
            raise ValueError(no_null(self, "guidance"))
        return DiffusionDistribution(self, p.context, p.batch_shape, scale)

    def unconditional(self) -> DiffusionDistribution:
        """The distribution without the context, which training has left out now and then."""
        if self.null is None:
            raise ValueError(no_null(self, "the distribution without its context"))
        return DiffusionDistribution(self, unflat(self.null, self.context_shape), ())

    def chain(self, num_steps: int | None = None) -> Chain:
        """The model and guide of `num_steps` ordinary sample sites (default all T of the schedule);
        `Chain` says which.
        """
        return Chain(self, chain_steps(self.schedule.num_steps, num_steps))

    @property
    def schedule(self) -> Any:
        """The schedule of the noise."""
        return self.own_schedule or self.learned_schedule

    @property
    def is_clean(self) -> bool:
        """Whether level 0 is the datum itself, not one with a little noise."""
        return not isinstance(self.schedule, LearnedSchedule)

    def steps(self, num_steps: int | None = None, like: Tensor | None = None) -> Steps:
        """The steps of a chain, the least noisy first, in the precision of the network."""
        return steps_of(self.schedule, num_steps, self.like() if like is None else like)

    def like(self) -> Tensor:
        """A number of the precision and on the device of the network."""
        return next(self.parameters(), torch.zeros(()))

    def noise(
        self, x: Tensor, t: Tensor, alpha: Any, sigma: Any, context: Any
    ) -> tuple[Tensor, Tensor | None]:
        """The noise predicted in x (N, *dim) at times t (N,), with the levels' alpha and sigma, and
        what the network says of the variance.
        """
        a, s = self.spread(alpha), self.spread(sigma)
        seen = x / (a**2 * self.data_variance + s**2) ** 0.5 if self.scaled else x
        out = self.net(seen, t) if context is None else self.net(seen, t, context)
        wanted = (len(x), *output_shape(self.event_shape, self.variance))
        check_output(self, out, wanted, self.event_shape)
        out, raw = out.chunk(2, 1) if self.variance == "learned" else (out, None)
        if self.predict == "data":
            out = (x - a * out) / s
        elif self.predict == "velocity":
            out = (s * x + a * out) / (a**2 + s**2)
        elif self.predict == "score":
            out = -s * out
        return out, raw

    def log_variance(self, steps: Steps, raw: Any) -> Tensor:
        """The log variance of steps down (N,), to be broadcast to (N, *dim)."""
        if self.variance == "large":
            return self.spread(steps.large.log())
        if self.variance == "small" or (self.variance == "learned" and raw is None):
            return self.spread(steps.floor.log())
        if self.variance == "learned":
            low, high = self.spread(steps.floor.log()), self.spread(steps.large.log())
            return low + (high - low) * (raw + 1) / 2
        v, noise = self.data_variance, steps.sigma**2
        error = v * noise / (steps.alpha**2 * v + noise)
        if self.errors is not None:
            index = (steps.t * len(self.errors)).round().long() - 1
            error = error * self.errors[index].exp()
        return self.spread((steps.small + steps.data**2 * error).log())

    def spread(self, x: Any) -> Any:
        """Numbers (N,) to be broadcast to (N, *dim)."""
        return x if isinstance(x, float) else x.reshape(-1, *(1,) * len(self.event_shape))

    def without(self, context: Any, num: int) -> Any:
        """No context, for N cases; with drop-out in training now and then."""
        return unflat(self.null.expand(num, -1), self.context_shape)

    def dropped(self, context: Any) -> Any:
        """The context, which training leaves out now and then."""
        if self.null is None or not self.training:
            return context
        vectors = self.flat(context)
        left_out = torch.rand(len(vectors), 1, device=vectors.device) < self.drop_context
        return unflat(torch.where(left_out, self.null, vectors), self.context_shape)

    def _sizes(self) -> tuple[str, ...]:
        return (f"schedule={self.schedule}", f"predict={self.predict!r}")


def default_net(
    event: tuple[int, ...],
    out: tuple[int, ...],
    hidden: Sequence[int],
    context_shape: tuple[Any, ...],
) -> Any:
    """A U-Net for images, else a multilayer perceptron."""
    time = TimeFeatures(32)
    if len(event) == 3:
        size = (event[0], event[1], event[2])
        return UNet(size, out_channels=out[0], time=time, context_shape=context_shape)
    return TimeMLP(event, hidden, out_dim=out, time=time, context_shape=context_shape)
