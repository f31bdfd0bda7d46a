"""Values, contexts and times as the network of a diffusion sees them."""

from typing import Any

import jax.numpy as jnp
from jax import Array

from dgm_core.diffusion_draws import check_filled, check_time
from dgm_core.diffusion_steps import check_batches, check_event
from numpyro_dgm.conditionals.diffusion.schedules import marginal
from numpyro_dgm.nn.contexts import spread
from numpyro_dgm.nn.requirements import require

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

        def guided(x: Array, t: Array, alpha: Array, sigma: Array) -> Any:
            given, raw = net.noise(x, t, alpha, sigma, context)
            free, _ = net.noise(x, t, alpha, sigma, net.without(context, len(x)))
            return free + self.scale * (given - free), raw

        return guided

    def _level(self, like: Array, t: float, num: int = 1) -> tuple[Array, Array]:
        time = jnp.full(num, check_time(t), like.dtype)
        log_alpha, variance = marginal(self.network.schedule, time)
        return jnp.exp(log_alpha), variance**0.5

    def _inside(self, value: Array, *, data: bool = True) -> tuple[Array, tuple[int, ...]]:
        """Values with one batch dimension, levels in [-1, 1], and the shape of the batch."""
        net, value = self.network, jnp.asarray(value)
        if not jnp.issubdtype(value.dtype, jnp.floating):
            value = value.astype(net.like().dtype)
        split = check_event(net, value.shape, tuple(self.event_shape))
        require(f"a value of {net}", "a finite number", value, jnp.isfinite(value))
        batch = check_batches(net, value.shape[:split], self.batch_shape)
        if net.num_levels is not None and data:
            steps = value * (net.num_levels - 1)
            good = (jnp.abs(steps - steps.round()) < 1e-2) & (value >= 0) & (value <= 1)
            require(f"a value of {net}", f"one of {net.num_levels} levels in [0, 1]", value, good)
            value = 2 * value - 1
        value = jnp.broadcast_to(value, (*batch, *self.event_shape))
        return value.reshape(-1, *self.event_shape), batch

    def _outside(self, x: Array) -> Array:
        """Values as data have them."""
        top = self.network.num_levels
        return x if top is None else ((x + 1) / 2 * (top - 1)).round().clip(0, top - 1) / (top - 1)

    def _known(self, known: Any, mask: Any, batch: tuple[int, ...]) -> Any:
        """What is known of draws, and where, with one batch dimension."""
        if known is None:
            return None
        whole = (*batch, *self.event_shape)
        known, mask = map(jnp.asarray, (known, mask))
        check_filled(known.shape, mask.shape, whole)
        require("mask", "true or false", mask, (mask == 0) | (mask == 1))
        known = jnp.where(mask := mask.astype(bool), known, 0.0)
        x, _ = self._inside(jnp.broadcast_to(known, whole))
        return x, jnp.broadcast_to(mask, whole).reshape(x.shape)
