"""Scalar maps: increasing maps w = h(v; raw) of one number, with given real parameters, in both
directions.

Autoregressive and coupling flows are the same maps with other conditioners. A map has no parameters
of its own; raw = 0 gives (nearly) the identity.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import log, pi, sqrt
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from dgm_core.arguments import check_count, check_number
from pyro_dgm.conditionals import positive
from pyro_dgm.flows.roots import increasing_root

__all__ = ["Affine", "MixtureCDF", "ScalarMap", "Shift", "Sigmoidal", "Spline"]


class ScalarMap(ABC):
    """An increasing map of one number, given `num_params` real parameters.

    Attributes:
        num_params: how many numbers there are for each coordinate or layer.
        inverse_cost: in words: "closed form" or "root search".

    Shapes:
        v and w (*batch,), raw (*batch, num_params) -> value and log-slope (*batch,), broadcast
        against each other.
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
    """w = m + exp(a) v,  a = 5 tanh(raw_a / 5): smoothly bounded, so that exp(a) neither overflows
    nor vanishes.

    References:
        Papamakarios et al. (2017), arXiv:1705.07057, eq. (4).

    Example:
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
    m, a = raw.unbind(-1)
    return m, 5.0 * torch.tanh(a / 5.0)


@dataclass(frozen=True)
class Shift(ScalarMap):
    """w = v + m, which keeps volumes.

    References:
        Dinh et al. (2014), arXiv:1410.8516, additive coupling.

    Example:
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


@dataclass(frozen=True)
class Spline(ScalarMap):
    """A monotone rational-quadratic spline from [-bound, bound] to itself, and the identity
    outside.

    Widths and heights of the bins are softmaxes, the slopes at the inner knots positive, those at
    the ends one: 3 num_bins - 1 parameters.

    Args:
        num_bins: the number of bins.
        bound: .

    Raises:
        ValueError: if num_bins is not in [2, 500] or bound is not positive.

    References:
        Durkan et al. (2019), arXiv:1906.04032, eqs. (4) to (8).

    Example:
        >>> Spline().invert(torch.tensor(2.0), torch.zeros(23))[0]
        tensor(2.)
    """

    num_bins: int = 8
    bound: float = 5.0

    def __post_init__(self) -> None:
        check_count("num_bins", self.num_bins, 2, 500)
        check_number("bound", self.bound, above=0)

    @property
    def num_params(self) -> int:
        """The number of parameters of the map."""
        return 3 * self.num_bins - 1

    def __call__(self, v: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        """w = h(v) and log dw/dv."""
        x, y, slopes = self._knots(raw)
        inside = v.clamp(-self.bound, self.bound)
        x0, y0, width, height, d0, d1 = _bin(x, inside, x, y, slopes)
        s, t = height / width, (inside - x0) / width
        w = y0 + height * (s * t**2 + d0 * t * (1 - t)) / (s + (d1 + d0 - 2 * s) * t * (1 - t))
        outside = v.abs() > self.bound
        return torch.where(outside, v, w), torch.where(outside, 0.0, _log_slope(s, t, d0, d1))

    def invert(self, w: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        """v = h^-1(w) and log dv/dw."""
        x, y, slopes = self._knots(raw)
        inside = w.clamp(-self.bound, self.bound)
        x0, y0, width, height, d0, d1 = _bin(y, inside, x, y, slopes)
        s, rise = height / width, inside - y0
        curve = rise * (d1 + d0 - 2 * s)
        a, b, c = height * (s - d0) + curve, height * d0 - curve, -s * rise
        t = (
            2 * c / (-b - (b**2 - 4 * a * c).clamp(min=torch.finfo(w.dtype).tiny).sqrt())
        )  # the form without cancellation
        outside = w.abs() > self.bound
        return torch.where(outside, w, x0 + width * t), torch.where(
            outside, 0.0, -_log_slope(s, t, d0, d1)
        )

    def _knots(self, raw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Abscissae, ordinates and slopes (*batch, num_bins + 1)."""
        size = self.num_bins
        sizes = raw[..., : 2 * size].unflatten(-1, (2, size)).softmax(-1)
        ends = 2 * self.bound * (1e-3 + (1 - 1e-3 * size) * sizes).cumsum(-1) - self.bound
        x, y = torch.nn.functional.pad(ends, (1, 0), value=-self.bound).unbind(-2)
        return (
            x,
            y,
            torch.nn.functional.pad(positive(raw[..., 2 * size :], 1e-3), (1, 1), value=1.0),
        )


def _bin(knots: Tensor, value: Tensor, x: Tensor, y: Tensor, slopes: Tensor) -> tuple[Tensor, ...]:
    """Left end, lower end, width, height and both slopes of the bin, along `knots`, that a value
    lies in.
    """
    left = (value[..., None] >= knots[..., 1:-1]).sum(-1, keepdim=True)

    def at(values: Tensor, index: Tensor) -> Tensor:
        return values.expand(*index.shape[:-1], -1).gather(-1, index)[..., 0]

    x0, y0 = at(x, left), at(y, left)
    return (
        x0,
        y0,
        at(x, left + 1) - x0,
        at(y, left + 1) - y0,
        at(slopes, left),
        at(slopes, left + 1),
    )


def _log_slope(s: Tensor, t: Tensor, d0: Tensor, d1: Tensor) -> Tensor:
    """The logarithm of a rational-quadratic's slope, eq. (5)."""
    rest = t * (1 - t)
    return (
        2 * s.log()
        + (d1 * t**2 + 2 * s * rest + d0 * (1 - t) ** 2).log()
        - 2 * (s + (d1 + d0 - 2 * s) * rest).log()
    )


@dataclass(frozen=True)
class _OfComponents(ScalarMap):
    """A map with three numbers for each of its components."""

    num_components: int = 8
    inverse_cost = "root search"

    def __post_init__(self) -> None:
        check_count("num_components", self.num_components)

    @property
    def num_params(self) -> int:
        """The number of parameters of the map."""
        return 3 * self.num_components


@dataclass(frozen=True)
class MixtureCDF(_OfComponents):
    """w = logit F(v),  F(v) = sum_k p_k Phi((v - m_k) / s_k): turns a mixture of normal
    distributions into the standard logistic one.

    Under a `StandardLogistic` base the density of v is the mixture's. At raw = 0 the components are
    spread over (-1.5, 1.5) and F has the variance of the logistic distribution.

    Args:
        num_components: .

    Cost:
        the inverse is a root search.

    Raises:
        ValueError: if num_components < 1.

    References:
        Papamakarios et al. (2017), arXiv:1705.07057, section 3.2 (MoG conditionals).
    """

    def __call__(self, v: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        """w = h(v) and log dw/dv."""
        logits, m, s = self._components(raw)
        z = (v[..., None] - m) / s
        log_density = -0.5 * z**2 - 0.5 * log(2 * pi) - s.log()
        return _logit_of_mixture(logits, _log_ndtr(z), _log_ndtr(-z), log_density)

    def invert(self, w: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        """v = h^-1(w) and log dv/dw."""
        _, m, s = self._components(raw)
        # The root lies between the components' quantiles, and Phi(-q) <= exp(-q^2 / 2) / 2 bounds
        # those.
        q = (-2 * (logsigmoid(-w.abs()) + log(2))).clamp(min=0.0).sqrt()[..., None]
        lower, upper = torch.where(w[..., None] < 0, -q, 0.0), torch.where(w[..., None] < 0, 0.0, q)
        v = increasing_root(self, w, (m + s * lower).amin(-1), (m + s * upper).amax(-1), raw)
        return v, -self(v, raw)[1]

    def _components(self, raw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        size = self.num_components
        start = np.linspace(-1.5, 1.5, size) if size > 1 else np.zeros(1)
        logits, shift, raw_scale = raw.unflatten(-1, (3, size)).unbind(-2)
        return (
            logits.log_softmax(-1),
            shift + raw.new_tensor(start),
            sqrt(pi**2 / 3 - start.var()) * positive(raw_scale, 1e-3),
        )


@dataclass(frozen=True)
class Sigmoidal(_OfComponents):
    """w = logit sum_k p_k sigmoid(a_k v + b_k),  a_k > 0: a network with one hidden layer,
    increasing, from the real line onto itself.

    Args:
        num_components: .

    Cost:
        the inverse is a root search.

    Raises:
        ValueError: if num_components < 1.

    References:
        Huang et al. (2018), arXiv:1804.00779, eq. (8), deep sigmoidal flow.

    Example:
        >>> round(Sigmoidal(3).invert(torch.tensor(2.0), torch.zeros(9))[0].item(), 4)
        2.0
    """

    def __call__(self, v: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        """w = h(v) and log dw/dv."""
        logits, a, b = self._components(raw)
        z = a * v[..., None] + b
        log_cdf, log_sf = logsigmoid(z), logsigmoid(-z)
        return _logit_of_mixture(logits, log_cdf, log_sf, a.log() + log_cdf + log_sf)

    def invert(self, w: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        """v = h^-1(w) and log dv/dw."""
        _, a, b = self._components(raw)
        each = (
            w[..., None] - b
        ) / a  # the roots of the components, of which one lies below and one above
        v = increasing_root(self, w, each.amin(-1), each.amax(-1), raw)
        return v, -self(v, raw)[1]

    def _components(self, raw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits, raw_a, b = raw.unflatten(-1, (3, self.num_components)).unbind(-2)
        return logits.log_softmax(-1), positive(raw_a, 1e-3), b


def _log_ndtr(z: Tensor) -> Tensor:
    """log Phi(z), with exact derivatives in the tail: torch's are differences of large numbers
    there.
    """
    far = z.clamp(max=-12.0)
    square, series = far**-2, torch.ones_like(z)
    for k in range(23, 0, -2):
        series = 1 - k * square * series  # 1 - 1 / z^2 + 3 / z^4 - 15 / z^6 + ...
    tail = -0.5 * far**2 - (-far).log() - 0.5 * log(2 * pi) + series.log()
    return torch.where(z < -12, tail, torch.special.log_ndtr(z.clamp(min=-12.0)))


def _logit_of_mixture(
    log_weights: Tensor, log_cdf: Tensor, log_sf: Tensor, log_density: Tensor
) -> tuple[Tensor, Tensor]:
    """logit F and its log-slope log f - log F - log(1 - F), for a mixture (components last), exact
    in both tails.
    """
    log_f, log_below, log_above = (
        (log_weights + part).logsumexp(-1) for part in (log_density, log_cdf, log_sf)
    )
    return log_below - log_above, log_f - log_below - log_above
