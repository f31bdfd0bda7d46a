"""Networks that are formulas, for continuous flows."""

from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import torch


class _Torch(torch.nn.Module):
    def __init__(self, formula: Callable) -> None:
        super().__init__()
        self.formula = formula

    def forward(self, *arguments: Any) -> Any:
        return self.formula(*arguments)


class _Jax(eqx.Module):
    formula: Callable

    def __call__(self, *arguments: Any) -> Any:
        return self.formula(*arguments)


def velocity(lib: Any, formula: Callable) -> Any:
    """A network of a library (or backend) that is a formula of x, t and a context."""
    is_torch = getattr(lib, "name", None) == "pyro" or hasattr(lib, "torch")
    return (_Torch if is_torch else _Jax)(formula)


def wide(t: Any) -> Any:
    """A time for vectors: a number as it is, (*batch,) as (*batch, 1)."""
    return t[..., None] if t.ndim else t


def linear(a: Any, x: Any, t: Any) -> Any:
    """dx/dt = A x."""
    return x @ a.T


def straight(mean: float, variance: float, x: Any, t: Any) -> Any:
    """The mean of x_1 - x_0 given x_t, x_0 ~ N(0, 1) and x_1 ~ N(mean, variance) independent."""
    t = wide(t)
    slope = (variance * t - (1 - t)) / ((1 - t) ** 2 + variance * t**2)
    return mean + slope * (x - mean * t)


def linear_velocity(lib: Any, a: Any) -> Any:
    return velocity(lib, partial(linear, lib.array(a)))


def straight_velocity(lib: Any, mean: float, variance: float) -> Any:
    return velocity(lib, partial(straight, mean, variance))
