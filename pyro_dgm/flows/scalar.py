"""Scalar maps: increasing maps w = h(v; raw) of one number, with given real parameters, in both directions.

Autoregressive and coupling flows are the same maps with other conditioners. A map has no parameters of its own; raw = 0 gives (nearly) the identity.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

__all__ = ["Affine", "ScalarMap", "Shift"]


class ScalarMap(ABC):
    """An increasing map of one number, given `num_params` real parameters.

    Attributes: num_params; inverse_cost, in words: "closed form" or "root search".
    Shapes: v and w (*batch,), raw (*batch, num_params) -> value and log-slope (*batch,), broadcast against each other.
    """

    inverse_cost: ClassVar[str] = "closed form"

    @property
    @abstractmethod
    def num_params(self) -> int:
        """The number of parameters of the map."""

    @abstractmethod
    def __call__(self, v: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        """w = h(v) and log dw/dv."""

    @abstractmethod
    def invert(self, w: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        """v = h^-1(w) and log dv/dw."""


@dataclass(frozen=True)
class Affine(ScalarMap):
    """w = m + exp(a) v,  a = 5 tanh(raw_a / 5): smoothly bounded, so that exp(a) neither overflows nor vanishes.

    Reference: Papamakarios et al. (2017), arXiv:1705.07057, eq. (4).

    >>> Affine()(torch.tensor(2.0), torch.zeros(2))
    (tensor(2.), tensor(0.))
    """

    num_params = 2

    def __call__(self, v: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        """w = h(v) and log dw/dv."""
        m, a = _shift_and_log_scale(raw)
        return m + a.exp() * v, a

    def invert(self, w: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        """v = h^-1(w) and log dv/dw."""
        m, a = _shift_and_log_scale(raw)
        return (w - m) * (-a).exp(), -a


def _shift_and_log_scale(raw: Tensor) -> tuple[Tensor, Tensor]:
    return raw[..., 0], 5.0 * torch.tanh(raw[..., 1] / 5.0)


@dataclass(frozen=True)
class Shift(ScalarMap):
    """w = v + m, which keeps volumes.

    Reference: Dinh et al. (2014), arXiv:1410.8516, additive coupling.

    >>> Shift()(torch.tensor(2.0), torch.ones(1))
    (tensor(3.), tensor(0.))
    """

    num_params = 1

    def __call__(self, v: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        """w = h(v) and log dw/dv."""
        return v + raw[..., 0], torch.zeros_like(raw[..., 0])

    def invert(self, w: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        """v = h^-1(w) and log dv/dw."""
        return w - raw[..., 0], torch.zeros_like(raw[..., 0])
