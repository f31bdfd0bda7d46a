"""Mixtures of a posterior at pseudo-inputs as priors: what is decided without a tensor.

A learned pseudo-input is u = low + (high - low) sigmoid(raw), inside the range of the data, or raw
itself where that is the real line.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from dgm_core.arguments import (
    check_count,
    check_flag,
    check_floats,
    check_instance,
    check_shape,
    refuse,
)
from dgm_core.contexts import check_context_shape, shown_shape

__all__ = [
    "NORMS",
    "Components",
    "block_length",
    "check_mean",
    "check_parts",
    "check_without",
    "components",
    "in_shape",
    "raw_of",
]

_DEFAULT = 500  # components, as in the paper
_BOUNDS = (0.0, 1.0)  # of the data, unless others are given
_WANTED = "an array (num_components, *shape of a datum)"
_MARGIN = 0.01  # of the range, by which learned pseudo-inputs start inside it
_BLOCK = 2**24  # numbers that the densities of some components take at once
NORMS = (
    "Pseudo-inputs must not meet batch normalization, whose statistics would be those of data and "
    "pseudo-inputs in turn: take an encoder with batch_norm=False."
)


@dataclass(frozen=True, eq=False)
class Components:
    """What is known of the components of a prior before their networks are.

    Attributes:
        number: of components.
        values: the pseudo-inputs (number, *x_shape) to start from or to stay at; None: random.
        learned, learned_weights, bounds, mean: see `VampPrior`.
    """

    number: int
    values: np.ndarray | None
    learned: bool
    learned_weights: bool
    bounds: tuple[float, float] | None
    mean: np.ndarray | None

    def __eq__(self, other: object) -> bool:
        if self is other or not isinstance(other, Components):
            return self is other
        pairs = ((getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        return all(np.array_equal(one, two) for one, two in pairs)

    def __hash__(self) -> int:
        return hash((self.number, self.learned, self.learned_weights, self.bounds))

    def x_shape(self, found: tuple[int, ...] | None, given: Any) -> tuple[int, ...] | None:
        """The shape of a pseudo-input: that of the values, of what the encoder takes, or the one
        given; None where nobody knows it.

        Raises:
            ValueError: where two of these differ.
        """
        shapes = {
            "pseudo_inputs": None if self.values is None else self.values.shape[1:],
            "the encoder": found,
            "x_shape": None if given is None else check_shape("x_shape", given),
        }
        known = {name: tuple(shape) for name, shape in shapes.items() if shape is not None}
        if len(set(known.values())) > 1:
            listed = ", ".join(f"{name} {shape}" for name, shape in known.items())
            raise ValueError(f"Pseudo-inputs must have the shape of a datum, got {listed}.")
        return next(iter(known.values()), None)

    def start(self, x_shape: tuple[int, ...]) -> np.ndarray:
        """The raw numbers that learned pseudo-inputs start from: (number, *x_shape) of the values,
        else (*x_shape) of the mean, to which the backend adds noise."""
        if self.values is not None:
            return raw_of(self.values, self.bounds)
        low, high = self.bounds or (0.0, 0.0)
        mean = np.asarray((low + high) / 2 if self.mean is None else self.mean)
        try:
            return raw_of(np.broadcast_to(mean, x_shape), self.bounds)
        except ValueError:
            refuse("mean", f"a number or an array of shape {x_shape}", self.mean)

    def shown(self) -> tuple[str, ...]:
        """What `repr` says of it."""
        parts = [f"num_components={self.number}"]
        parts += [] if self.learned else ["learned=False"]
        return (*parts, "learned_weights=True") if self.learned_weights else tuple(parts)


def components(
    num_components: Any = None,
    pseudo_inputs: Any = None,
    *,
    learned: Any = True,
    learned_weights: Any = False,
    bounds: Any = _BOUNDS,
    mean: Any = None,
    name: str = "pseudo_inputs",
) -> Components:
    """The components that arguments of `VampPrior` ask for.

    Raises:
        ValueError: for arguments that are no good or contradict each other.

    Example:
        >>> components(3).number, components(pseudo_inputs=np.zeros((4, 2))).number
        (3, 4)
        >>> components(pseudo_inputs=[[3.0]])
        Traceback (most recent call last):
        ValueError: pseudo_inputs must lie in bounds=(0.0, 1.0), the range of the data, got \
values from 3 to 3: bounds=None is the real line.
    """
    learned = check_flag("learned", learned)
    learned_weights = check_flag("learned_weights", learned_weights)
    bounds = _bounds(bounds)
    if not learned and bounds not in (None, _BOUNDS):
        raise ValueError(
            f"bounds={bounds} say where pseudo-inputs are learned, and with learned=False they "
            "stay where they are: leave bounds out."
        )
    bounds = bounds if learned else None
    values = None
    if pseudo_inputs is not None:
        values = _values(name, pseudo_inputs, bounds)
        if num_components is not None:
            raise ValueError(
                f"{name} say how many components there are: leave out num_components, got "
                f"{num_components!r}."
            )
        if mean is not None:
            raise ValueError(f"{name} say where to start: leave out mean.")
    elif not learned:
        refuse(name, f"{_WANTED}, where learned=False", None)
    number = _DEFAULT if num_components is None else check_count("num_components", num_components)
    return Components(
        number if values is None else len(values),
        values,
        learned,
        learned_weights,
        bounds,
        None if mean is None else check_mean(mean, bounds),
    )


def check_mean(mean: Any, bounds: tuple[float, float] | None) -> np.ndarray:
    """The mean of the data, an array of finite numbers inside the bounds."""
    return _inside("mean", check_floats("mean", mean), bounds)


def _bounds(bounds: Any) -> tuple[float, float] | None:
    if bounds is None:
        return None
    found = check_floats("bounds", bounds)
    if found.shape != (2,) or not np.isfinite(found).all() or not found[0] < found[1]:
        refuse("bounds", "two numbers (low, high), or None for the real line", bounds)
    return float(found[0]), float(found[1])


def _values(name: str, values: Any, bounds: tuple[float, float] | None) -> np.ndarray:
    found = check_floats(name, np.asarray(values) if hasattr(values, "__array__") else values)
    if found.ndim < 2 or not found.size:
        refuse(name, _WANTED, values)
    return _inside(name, found, bounds)


def _inside(name: str, x: np.ndarray, bounds: tuple[float, float] | None) -> np.ndarray:
    if not np.isfinite(x).all():
        raise ValueError(f"{name} must be finite numbers, got NaN or infinity.")
    if bounds is not None and (x.min() < bounds[0] or x.max() > bounds[1]):
        raise ValueError(
            f"{name} must lie in bounds={bounds}, the range of the data, got values from "
            f"{x.min():g} to {x.max():g}: bounds=None is the real line."
        )
    return x


def raw_of(x: np.ndarray, bounds: tuple[float, float] | None) -> np.ndarray:
    """The raw numbers of which pseudo-inputs x, moved inside the bounds by a hundredth, are made.

    Example:
        >>> raw_of(np.array([0.0, 0.5, 1.0]), (0.0, 1.0)).round(4)
        array([-4.5951,  0.    ,  4.5951])
    """
    if bounds is None:
        return np.asarray(x, np.float64)
    low, high = bounds
    share = _MARGIN + (1 - 2 * _MARGIN) * (np.asarray(x, np.float64) - low) / (high - low)
    return np.log(share) - np.log1p(-share)


def in_shape(encoder: Any) -> tuple[int, ...] | None:
    """The shape of a datum that a network takes, where it says so."""
    size = getattr(encoder, "image_shape", None) or getattr(encoder, "in_dim", None)
    return None if size is None else check_shape("in_dim", size)


def check_parts(encoder: Any, posterior: Any, conditional: type) -> None:
    """Raise a ValueError unless encoder and posterior fit together, or neither is given.

    Args:
        conditional: the class of conditionals of the backend.
    """
    if encoder is not None and (isinstance(encoder, type) or not callable(encoder)):
        refuse("encoder", "a network from data to features", encoder)
    if posterior is not None:
        check_instance(
            "posterior", posterior, conditional, "a conditional such as DiagonalNormal(2)"
        )
    if (encoder is None) != (posterior is None):
        missing = "encoder" if encoder is None else "posterior"
        raise ValueError(
            f"The prior is a mixture of posterior(encoder(u)): give both, or neither where a "
            f"model brings its own; the {missing} is missing."
        )
    if encoder is None:
        return
    features = getattr(encoder, "out_shape", None) or getattr(encoder, "out_dim", None)
    shape = posterior.context_shape
    if not shape or (features and check_context_shape("features", features) != shape):
        raise ValueError(
            "The posterior must have the encoder's features as context, context_shape="
            f"{shown_shape(check_context_shape('features', features or 0))}, got {posterior!r} "
            f"with context_shape={shown_shape(shape)}."
        )


def check_without(plan: Components, without: Any) -> None:
    """Raise a ValueError where single components cannot be left out."""
    if plan.learned:
        raise ValueError(
            "without= leaves out a datum that is a component: it needs fixed pseudo_inputs, "
            "learned=False."
        )
    if plan.number < 2:
        raise ValueError("without= must leave a component, and there is one.")
    if "int" not in str(getattr(without, "dtype", "")):
        refuse("without", "an array of integers, the numbers of components", without)


def block_length(num_components: int, num_numbers: int) -> int:
    """How many components are scored at once, where each takes so many numbers.

    Example:
        >>> block_length(500, 128 * 40), block_length(500, 50_000 * 40)
        (500, 8)
    """
    return max(1, min(num_components, _BLOCK // max(1, num_numbers)))
