"""What a step of `fit` does with the gradients."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from dgm_core.schedules import value_of, weight_of

__all__: list[str] = []  # for the package, not for users


class Updates:
    """What a step does with the gradients: clipping, learning rate, optimizer, moving average."""

    def __init__(
        self,
        optim: optax.GradientTransformationExtraArgs,
        *,
        clip_norm: float | None = None,
        lr_schedule: Callable[[Any], Any] | None = None,
        average: float | None = None,
    ) -> None:
        self.optim, self.clip_norm, self.lr_schedule, self.decay = (
            optim,
            clip_norm,
            lr_schedule,
            average,
        )

    def __call__(
        self,
        grads: Any,
        state: Any,
        params: Any,
        step: Array,
        *,
        value: Array,
        value_fn: Callable[[Any], Array],
    ) -> tuple[Any, Any]:
        """The parameters after one update, and the state of the optimizer."""
        if self.clip_norm is not None:
            factor = jnp.minimum(1.0, self.clip_norm / (optax.tree.norm(grads) + 1e-6))
            grads = jax.tree.map(lambda grad: grad * factor.astype(grad.dtype), grads)
        updates, state = self.optim.update(
            grads, state, params, value=value, grad=grads, value_fn=value_fn
        )
        if self.lr_schedule is not None:
            factor = weight_of(self.lr_schedule, step)
            updates = jax.tree.map(lambda u: u * jnp.asarray(factor, u.dtype), updates)
        return optax.apply_updates(params, updates), state

    def factor(self, num_steps: int) -> float:
        """What the learning rate is multiplied with after `num_steps` steps."""
        return 1.0 if self.lr_schedule is None else float(value_of(self.lr_schedule, num_steps))

    def averaged(self, average: Any, params: Any, step: Array) -> Any:
        """The moving average after this step; None without one."""
        if self.decay is None:
            return None
        decay = jnp.minimum(self.decay, (1.0 + step) / (10.0 + step)) * (step > 0)
        return jax.tree.map(
            lambda old, new: new + (decay * (old - new)).astype(new.dtype), average, params
        )
