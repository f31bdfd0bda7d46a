"""What a step of `fit` does with the gradients."""

import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from dgm_core.schedules import value_of
from pyro_dgm.compat import copy_all, lerp_all
from pyro_dgm.nn.optimizers import build_optimizer

__all__: list[str] = []  # for the package, not for users


class NotFiniteError(ArithmeticError):
    """Inside a step: a number is not finite."""


class Updates:
    """What a step does with the gradients: clipping, learning rate, optimizer, moving average."""

    def __init__(
        self,
        optim: Any,
        params: Mapping[str, nn.Parameter],
        *,
        clip_norm: float | None = None,
        lr_schedule: Callable[[Any], Any] | None = None,
        average: float | None = None,
    ) -> None:
        self.weights = list(params.values())
        if not self.weights:
            raise ValueError(
                "Model and guide have no learnable parameters: register networks with "
                "pyro.module, and use pyro.param."
            )
        self.optimizer = build_optimizer(optim, params)
        self.clip_norm, self.lr_schedule, self.decay = clip_norm, lr_schedule, average
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        self.average = None if average is None else [w.detach().clone() for w in self.weights]
        closure = inspect.signature(type(self.optimizer).step).parameters["closure"]
        self.needs_closure = closure.default is inspect.Parameter.empty  # L-BFGS

    def __call__(self, num_steps: int, differentiate: Callable[[], Tensor]) -> Tensor:
        """One update after `num_steps` others; returns the loss and its terms.

        `differentiate` sets the gradients and returns them too.  Raises NotFiniteError where the
        learning rate is negative or not finite.
        """
        if self.lr_schedule is not None:
            factor = self.factor(num_steps)
            if not math.isfinite(factor) or factor < 0:
                raise NotFiniteError
            for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
                group["lr"] = factor * rate
        if self.needs_closure:
            values = self._search(differentiate)
        else:
            values = differentiate()
            if self.clip_norm is not None:
                nn.utils.clip_grad_norm_(self.weights, self.clip_norm)
            self.optimizer.step()
        if self.average is not None:
            decay = min(self.decay or 0.0, (1 + num_steps) / (10 + num_steps)) if num_steps else 0.0
            weights = [weight.detach() for weight in self.weights]
            lerp_all(self.average, weights, 1.0 - decay)
        return values

    def factor(self, num_steps: int) -> float:
        """What the learning rate is multiplied with after `num_steps` steps."""
        return 1.0 if self.lr_schedule is None else float(value_of(self.lr_schedule, num_steps))

    def _search(self, differentiate: Callable[[], Tensor]) -> Tensor:
        state, values = torch.get_rng_state(), []

        def closure() -> Tensor:
            torch.set_rng_state(state)  # one function of the weights, not a new one at each call
            values.append(differentiate())
            return values[-1][0]

        self.optimizer.step(closure)  # type: ignore[arg-type]  # a tensor is as good as a number
        return values[0]

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside this block the weights are their moving average, if there is one."""
        weights = [weight.detach() for weight in self.weights]
        kept = None if self.average is None else [weight.clone() for weight in weights]
        try:
            if self.average is not None:
                copy_all(weights, self.average)
            yield
        finally:
            if kept is not None:
                copy_all(weights, kept)

    def state(self) -> dict[str, Any]:
        """What a checkpoint needs beside the weights."""
        return {"optimizer": self.optimizer.state_dict(), "average": self.average}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            copy_all(self.average, state["average"])
