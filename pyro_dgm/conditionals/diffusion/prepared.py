"""Values, contexts and times as the network of a diffusion sees them."""

from typing import Any

import torch
from torch import Tensor

from dgm_core.diffusion_draws import check_filled, check_time
from dgm_core.diffusion_steps import check_batches, check_event
from pyro_dgm.conditionals.diffusion.schedules import marginal
from pyro_dgm.nn.contexts import spread
from pyro_dgm.nn.requirements import require

__all__: list[str] = []  # for the package, not for users


class Prepared:
    """What a distribution hands to its network.

    network: a Diffusion;  context: checked;  scale: of the guidance or None;  batch_shape,
    event_shape: of the distribution.
    """

    network: Any
    context: Any
    scale: float | None
    batch_shape: Any
    event_shape: Any

    def _noise(self, batch: tuple[int, ...]) -> Any:
        """The noise predicted for all cases of a batch: (x, t, alpha, sigma) -> eps^, raw."""
        net = self.network
        context = spread(self.context, net.context_shape, batch)
        if self.scale is None:
            return lambda x, t, alpha, sigma: net.noise(x, t, alpha, sigma, context)

        def guided(x: Tensor, t: Tensor, alpha: Tensor, sigma: Tensor) -> Any:
            given, raw = net.noise(x, t, alpha, sigma, context)
            free, _ = net.noise(x, t, alpha, sigma, net.without(context, len(x)))
            return free + self.scale * (given - free), raw

        return guided

    def _level(self, like: Tensor, t: float, num: int = 1) -> tuple[Tensor, Tensor]:
        time = torch.full((num,), check_time(t), dtype=like.dtype, device=like.device)
        log_alpha, variance = marginal(self.network.schedule, time)
        return log_alpha.exp(), variance**0.5

    def _inside(self, value: Tensor, *, data: bool = True) -> tuple[Tensor, tuple[int, ...]]:
        """Values with one batch dimension, levels in [-1, 1], and the shape of the batch."""
        net, value = self.network, torch.as_tensor(value)
        if not value.is_floating_point():
            value = value.to(net.like().dtype)
        split = check_event(net, value.shape, tuple(self.event_shape))
        require(f"a value of {net}", "a finite number", value, value.isfinite())
        batch = check_batches(net, value.shape[:split], self.batch_shape)
        if net.num_levels is not None and data:
            steps = value * (net.num_levels - 1)
            good = ((steps - steps.round()).abs() < 1e-2) & (value >= 0) & (value <= 1)
            require(f"a value of {net}", f"one of {net.num_levels} levels in [0, 1]", value, good)
            value = 2 * value - 1
        return value.expand(*batch, *self.event_shape).reshape(-1, *self.event_shape), batch

    def _outside(self, x: Tensor) -> Tensor:
        """Values as data have them."""
        top = self.network.num_levels
        return x if top is None else ((x + 1) / 2 * (top - 1)).round().clamp(0, top - 1) / (top - 1)

    def _known(self, known: Any, mask: Any, batch: tuple[int, ...]) -> Any:
        """What is known of draws, and where, with one batch dimension."""
        if known is None:
            return None
        whole = (*batch, *self.event_shape)
        known, mask = torch.as_tensor(known), torch.as_tensor(mask)
        check_filled(known.shape, mask.shape, whole)
        require("mask", "true or false", mask, (mask == 0) | (mask == 1))
        mask = mask.bool()
        known = torch.where(mask, known, 0.0)
        x, _ = self._inside(known.expand(whole))
        return x, mask.expand(whole).reshape(x.shape)
