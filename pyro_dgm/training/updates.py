"""What a step of `fit` does with the gradients."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from dgm_core.schedules import value_of
from pyro_dgm.nn.optimizers import build_optimizer

__all__: list[str] = []  # for the package, not for users


class Updates:
    """What a step does with the gradients: clipping, learning rate, the optimiser, the moving
    average of the weights.
    """

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
        self.optimiser = build_optimizer(optim, params)
        self.clip_norm, self.lr_schedule, self.decay = clip_norm, lr_schedule, average
        self.rates = [group["lr"] for group in self.optimiser.param_groups]
        self.average = (
            None if average is None else [weight.detach().clone() for weight in self.weights]
        )
        step: Callable = type(self.optimiser).step
        self.needs_closure = (
            inspect.signature(step).parameters["closure"].default is inspect.Parameter.empty
        )  # L-BFGS

    def __call__(self, num_steps: int, differentiate: Callable[[], Tensor]) -> Tensor:
        """One update after `num_steps` others; `differentiate` sets the gradients and returns the
        loss and its terms, as this does.
        """
        if self.lr_schedule is not None:
            factor = float(value_of(self.lr_schedule, num_steps))
            for group, rate in zip(self.optimiser.param_groups, self.rates, strict=True):
                group["lr"] = factor * rate
        if self.needs_closure:
            values = self._search(differentiate)
        else:
            values = differentiate()
            if self.clip_norm is not None:
                nn.utils.clip_grad_norm_(self.weights, self.clip_norm)
            self.optimiser.step()
        if self.average is not None:
            decay = min(self.decay or 0.0, (1 + num_steps) / (10 + num_steps)) if num_steps else 0.0
            torch._foreach_lerp_(
                self.average, [weight.detach() for weight in self.weights], 1.0 - decay
            )
        return values

    def _search(self, differentiate: Callable[[], Tensor]) -> Tensor:
        state, values = torch.get_rng_state(), []

        def closure() -> Tensor:
            torch.set_rng_state(state)  # one function of the weights, not a new one at each call
            values.append(differentiate())
            return values[-1][0]

        self.optimiser.step(closure)  # type: ignore[arg-type]  # a tensor is as good as a number
        return values[0]

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside this block the weights are their moving average, if there is one."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def state(self) -> dict[str, Any]:
        """What a checkpoint needs beside the weights."""
        return {"optimiser": self.optimiser.state_dict(), "average": self.average}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        self.optimiser.load_state_dict(state["optimiser"])
        if self.average is not None:
            self.average = [
                value.to(weight)
                for value, weight in zip(state["average"], self.weights, strict=True)
            ]

    def _swap(self) -> None:
        if self.average is not None:
            with torch.no_grad():
                for weight, value in zip(self.weights, self.average, strict=True):
                    kept = weight.clone()
                    weight.copy_(value)
                    value.copy_(kept)
