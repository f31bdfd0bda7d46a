"""The distribution that a diffusion returns."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor

from dgm_core.arguments import check_choice, check_count
from dgm_core.contexts import check_expanded
from dgm_core.diffusion import chain_steps
from dgm_core.diffusion_draws import (
    check_known,
    check_sampling,
    draw_steps,
)
from dgm_core.diffusion_steps import (
    WEIGHTS,
    check_teacher,
    exact_trace,
    no_density,
    no_gradient,
    no_moment,
    no_own_density,
)
from dgm_core.images import LARGEST
from pyro_dgm.conditionals.diffusion import ode
from pyro_dgm.conditionals.diffusion.bound import chain_bound, continuous_bound, weighted_error
from pyro_dgm.conditionals.diffusion.distilling import distillation_error
from pyro_dgm.conditionals.diffusion.prepared import Prepared
from pyro_dgm.conditionals.diffusion.samplers import drawn
from pyro_dgm.conditionals.discrete import Levels
from pyro_dgm.conditionals.implicit import NoDensityError
from pyro_dgm.nn.contexts import spread
from pyro_dgm.nn.requirements import require

__all__ = ["DiffusionDistribution"]


class DiffusionDensityError(NoDensityError):
    """The density of a diffusion was asked for where it has none."""

    kind = "has no density here"


class DiffusionDistribution(Prepared, TorchDistribution):
    """p(x | c) of a diffusion: drawn step by step, scored along its flow, bounded at single times.

    Args:
        network: a Diffusion.
        context: checked, as networks see it.
        batch_shape: to which that of the context broadcasts.
        scale: of the guidance; None without.

    Cost:
        sample a call of the network for each step (with guidance two); log_prob 4 ode_steps.

    Raises:
        ValueError: for values of another shape, with NaN or infinite entries, and unknown options.
        NoDensityError: for the density under guidance, and that of values with levels, which have a
            mass that `bound` is below. NotImplementedError: for moments.

    Example:
        >>> from pyro_dgm.conditionals import Diffusion
        >>> p = Diffusion(2, hidden=(8,), ode_steps=2)()
        >>> p.log_prob(torch.zeros(5, 2)).shape, p.bound(torch.zeros(5, 2)).shape
        (torch.Size([5]), torch.Size([5]))
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    has_rsample = False

    def __init__(
        self,
        network: Any,
        context: Any,
        batch_shape: torch.Size | tuple[int, ...],
        scale: float | None = None,
        *,
        validate_args: bool | None = None,
    ) -> None:
        self.network, self.context, self.scale = network, context, scale
        super().__init__(
            torch.Size(batch_shape), torch.Size(network.event_shape), validate_args=validate_args
        )

    @property
    def support(self) -> Any:
        """All real arrays; with levels, those of levels."""
        num = self.network.num_levels
        base = constraints.real if num is None else Levels(num)
        return constraints.independent(base, len(self.event_shape))

    @property
    def data_support(self) -> Any:
        """Where observed data are looked for: images within 30 standard deviations, which gray
        levels up to 255 are not.
        """
        if self.network.num_levels is not None or len(self.event_shape) != 3:
            return self.support
        far = LARGEST * self.network.data_variance**0.5
        return constraints.independent(constraints.interval(-far, far), len(self.event_shape))

    @property
    def is_estimated(self) -> bool:
        """Whether log_prob is an estimate, by random probes."""
        return not exact_trace(tuple(self.event_shape))

    @property
    def mean(self) -> Tensor:
        """Refused."""
        raise NotImplementedError(no_moment(self.network, "mean"))

    @property
    def variance(self) -> Tensor:
        """Refused."""
        raise NotImplementedError(no_moment(self.network, "variance"))

    def expand(
        self, batch_shape: torch.Size | tuple[int, ...], _instance: None = None
    ) -> DiffusionDistribution:
        """The same distribution with a larger batch shape."""
        batch_shape = check_expanded(self.batch_shape, batch_shape)
        return DiffusionDistribution(self.network, self.context, batch_shape, self.scale)

    def sample(
        self,
        sample_shape: torch.Size | tuple[int, ...] = (),
        *,
        method: str | None = None,
        num_steps: int | None = None,
        eta: float | None = None,
        known: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Draws, without gradient.

        Args:
            sample_shape: of independent draws.
            method: "ancestral", down the chain (without noise in its last step, as in Ho et al.
                2020); "ddim" (Song, Meng & Ermon 2021); "ode", the flow from noise. Default: the
                conditional's.
            num_steps: of the levels, evenly spread; of the flow, Runge-Kutta steps. Default: the
                conditional's, else all of a chain, 100 in continuous time.
            eta: of DDIM: 0 without noise, 1 with that of the posterior.
            known, mask: values, and where they are known, to be filled in elsewhere: in every step
                they replace what is drawn, with the noise of its level. That is near draws given
                the known part, not exactly those.
        """
        net, batch = self.network, (*sample_shape, *self.batch_shape)
        method = net.method if method is None else method
        eta = check_sampling(
            method, (net.eta if method == net.method else 0.0) if eta is None else eta
        )
        check_known(method, known, mask)
        like = net.like()
        noise = torch.randn(*batch, *self.event_shape, dtype=like.dtype, device=like.device)
        with torch.no_grad():
            x = noise.reshape(-1, *self.event_shape) * net.schedule.prior_scale
            run = self._noise(batch)
            num = draw_steps(net, method, num_steps)
            if method == "ode":
                x = ode.moved(net, run, x, num, down=True)
            else:
                filled = self._known(known, mask, batch)
                x = drawn(net, run, x, num, method, eta, filled)
            require("draws of " + repr(net), "finite", x, x.isfinite())
        return self._outside(x).reshape(*batch, *self.event_shape)

    def rsample(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> Tensor:
        """Refused."""
        raise NotImplementedError(no_gradient(self.network))

    def log_prob(self, value: Tensor) -> Tensor:
        """The log-density along the flow: (*batch, *event) -> (*batch,); beyond 64 entries by 8
        fixed random probes, whose error `estimate_log_prob` reports.
        """
        return self.estimate_log_prob(value)[0]

    def estimate_log_prob(
        self, value: Tensor, *, num_steps: int | None = None, num_probes: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """The log-density along the flow and its standard error, (*batch,) each.

        Args:
            value: (*batch, *event).
            num_steps: Runge-Kutta steps (default ode_steps).
            num_probes: random products for the divergence, at least 2; None: exact up to 64
                entries, with an error of 0, and 8 beyond.
        """
        self._check_density()
        net = self.network
        x, batch = self._inside(value)
        num = net.ode_steps if num_steps is None else check_count("num_steps", num_steps)
        if num_probes is not None:
            check_count("num_probes", num_probes, 2)
        elif not exact_trace(tuple(self.event_shape)):
            num_probes = 8
        probes = None if num_probes is None else ode.fixed_signs(num_probes, x)
        found = ode.log_density(net, self._noise(batch), x, num, probes)
        if probes is None:
            return found.reshape(batch), torch.zeros_like(found).reshape(batch)
        error = found.std(0) / len(found) ** 0.5
        return found.mean(0).reshape(batch), error.reshape(batch)

    def bound(
        self,
        value: Tensor,
        *,
        num_steps: int | None = None,
        num_times: int | None = 1,
        kl: str = "closed",
    ) -> Tensor:
        """An estimate of the bound on log p(x), right on average: (*batch, *event) -> (*batch,).

        Args:
            value: data; with levels, of a mass.
            num_steps: of the chain (default all, or continuous time).
            num_times: steps for each datum, evenly spread; None: all of them, where log-ratios are
                along one path.
            kl: "closed", of each step, or "sampled", its log-ratio at a draw.
        """
        self._check_guidance()
        closed = check_choice("kl", kl, ("closed", "sampled")) == "closed"
        net = self.network
        if num_times is not None:
            check_count("num_times", num_times)
        x, batch = self._inside(value)
        context = net.dropped(spread(self.context, net.context_shape, batch))
        if num_steps is None and net.schedule.num_steps is None:
            if num_times is None or not closed:
                raise ValueError(
                    "Continuous time has no steps, of which all or a log-ratio could be taken: say "
                    "how many, num_steps=100."
                )
            return continuous_bound(net, x, context, num_times).reshape(batch)
        steps = net.steps(chain_steps(net.schedule.num_steps, num_steps), x)
        return chain_bound(net, x, context, steps, num_times, closed).reshape(batch)

    def denoising(self, value: Tensor, *, weight: str = "simple", num_times: int = 1) -> Tensor:
        """The weighted squared error of the network, per entry: (*batch, *event) -> (*batch,).

        Args:
            value: data.
            weight: "simple", of the noise; "data", of the datum; "velocity"; "min_snr", of the
                noise with weight min(1, 5 / SNR) (Hang et al. 2023).
            num_times: for each datum, uniform in time, evenly spread.
        """
        self._check_guidance()
        check_choice("weight", weight, WEIGHTS)
        num_times = check_count("num_times", num_times)
        net, (x, batch) = self.network, self._inside(value)
        context = net.dropped(spread(self.context, net.context_shape, batch))
        return weighted_error(net, x, context, weight, num_times).reshape(batch)

    def distillation(
        self,
        value: Tensor,
        *,
        teacher: Any,
        num_steps: int,
        weight: str = "velocity",
        num_times: int = 1,
    ) -> Tensor:
        """The weighted squared error of the network beside two steps of a teacher, per entry:
        (*batch, *event) -> (*batch,). What `ProgressiveDistillation` makes small.

        Args:
            value: data.
            teacher: another Diffusion with the same schedule and shapes.
            num_steps: of this one's chain; the teacher's has twice as many.
            weight, num_times: as for `denoising`, times of its chain.
        """
        self._check_guidance()
        check_choice("weight", weight, WEIGHTS)
        num_times = check_count("num_times", num_times)
        net, (x, batch) = self.network, self._inside(value)
        num_steps = check_teacher(net, teacher, num_steps)
        context = net.dropped(spread(self.context, net.context_shape, batch))
        found = distillation_error(net, teacher, x, context, num_steps, weight, num_times)
        return found.reshape(batch)

    def objective(self, value: Tensor) -> Tensor:
        """What `Objective` makes small: minus the bound, at one time for each datum."""
        return -self.bound(value)

    def noise(self, x: Tensor, t: float) -> Tensor:
        """The noise predicted in x (*batch, *event) at the time t in (0, 1]."""
        x, batch = self._inside(x)
        alpha, sigma = self._level(x, t, len(x))
        found, _ = self._noise(batch)(x, torch.full_like(alpha, t), alpha, sigma)
        return found.reshape(*batch, *self.event_shape)

    def score(self, x: Tensor, t: float) -> Tensor:
        """The gradient of log p_t predicted at x (*batch, *event), -eps / sigma."""
        found = self.noise(x, t)
        return -found / self._level(found, t)[1]

    def data(self, x: Tensor, t: float) -> Tensor:
        """The datum predicted in x (*batch, *event) at the time t in (0, 1]."""
        found = self.noise(x, t)
        alpha, sigma = self._level(found, t)
        return (x - sigma * found) / alpha

    def encode(self, value: Tensor, *, num_steps: int | None = None) -> Tensor:
        """Where the flow takes data: noise of the same shape."""
        num = self.network.ode_steps if num_steps is None else check_count("num_steps", num_steps)
        x, batch = self._inside(value)
        found = ode.moved(self.network, self._noise(batch), x, num, down=False)
        return found.reshape(*batch, *self.event_shape)

    def decode(self, noise: Tensor, *, method: str = "ode", num_steps: int | None = None) -> Tensor:
        """Where the flow, or DDIM without noise, takes noise: data of the same shape.

        Args:
            noise: (*batch, *event) at t = 1.
            method: "ode" or "ddim".
            num_steps: as in `sample`.
        """
        check_choice("method", method, ("ode", "ddim"))
        net = self.network
        x, batch = self._inside(noise, data=False)
        num = draw_steps(net, method, num_steps)
        if method == "ode":
            x = ode.moved(net, self._noise(batch), x, num, down=True)
        else:
            x = drawn(net, self._noise(batch), x, num, "ddim", 0.0, None)
        return self._outside(x).reshape(*batch, *self.event_shape)

    def check_drawn(self) -> None:
        """Raise a NoDensityError where log_prob is not that of what `sample` draws."""
        if self.network.method != "ode":
            raise DiffusionDensityError(no_own_density(self.network))

    def _check_guidance(self) -> None:
        if self.scale is not None:
            raise DiffusionDensityError(no_density(self.network, guided=True))

    def _check_density(self) -> None:
        self._check_guidance()
        if self.network.num_levels is not None:
            raise DiffusionDensityError(no_density(self.network, guided=False))
