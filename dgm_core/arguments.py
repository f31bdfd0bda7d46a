"""Checks of arguments, each with one sentence: "<name> must be <what was expected>, got <what>."

A check returns its value in the plain form that the rest of the code relies on (an int, a float, a
tuple) and raises ValueError for all else: text for a number, True for a size, NaN for a scale.

Example:
    >>> check_count("num_layers", 2), check_number("scale", 1, above=0)
    (2, 1.0)
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping, Set
from numbers import Integral, Real
from typing import Any, NoReturn, TypeVar

import numpy as np

__all__ = [
    "check_callable",
    "check_choice",
    "check_count",
    "check_counts",
    "check_flag",
    "check_flag_or_none",
    "check_floats",
    "check_fraction",
    "check_image_shape",
    "check_instance",
    "check_name",
    "check_names",
    "check_number",
    "check_numbers",
    "check_permutation",
    "check_seed",
    "check_shape",
    "check_sizes",
    "check_weight",
    "refuse",
    "shown",
]

T = TypeVar("T")


def refuse(name: str, wanted: str, value: Any) -> NoReturn:
    """Raises the sentence.

    Example:
        >>> refuse("batch_size", "an integer of at least 1", "10")
        Traceback (most recent call last):
        ValueError: batch_size must be an integer of at least 1, got '10'.
    """
    raise ValueError(f"{name} must be {wanted}, got {shown(value)}.")


def shown(value: Any) -> str:
    """How a sentence names what came: short values as they are, arrays by their shape.

    Example:
        >>> shown(0.5), shown([1, "a"]), shown(int)
        ('0.5', "[1, 'a']", 'the class int')
    """
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if shape := getattr(value, "shape", None):
        return f"{type(value).__name__} of shape {tuple(shape)}"
    text = repr(value)
    short = len(text) <= 200 and " at 0x" not in text and "\n" not in text
    return text if short else f"an object of type {type(value).__name__}"


def check_count(name: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """An integer of at least `least` and at most `most`: a size, a number of layers or of draws.

    Example:
        >>> check_count("num_layers", 2.0)
        Traceback (most recent call last):
        ValueError: num_layers must be an integer of at least 1, got 2.0.
    """
    if not _is_count(value, least) or (most is not None and value > most):
        range_ = f"of at least {least}" if most is None else f"from {least} to {most}"
        refuse(name, f"an integer {range_}", value)
    return int(value)


def check_counts(**values: Any) -> tuple[int, ...]:
    """Several integers of at least 1, by their names.

    Example:
        >>> check_counts(x_dim=4, z_dim=2)
        (4, 2)
    """
    return tuple(check_count(name, value) for name, value in values.items())


def check_sizes(name: str, value: Any, *, least: int = 0) -> tuple[int, ...]:
    """A sequence of integers of at least 1, `least` of them or more: the sizes of hidden layers.

    Example:
        >>> check_sizes("hidden", 64)
        Traceback (most recent call last):
        ValueError: hidden must be a sequence of integers of at least 1 such as (64,), got 64.
    """
    sizes = _sequence(value)
    if sizes is None or len(sizes) < least or not all(map(_is_count, sizes)):
        example = f"({value},)" if _is_count(value) else "(64, 64)"
        some = "a non-empty sequence" if least else "a sequence"
        refuse(name, f"{some} of integers of at least 1 such as {example}", value)
    return tuple(map(int, sizes))


def check_shape(name: str, value: Any) -> tuple[int, ...]:
    """The shape of a value from a size or a shape.

    Example:
        >>> check_shape("dim", 3), check_shape("dim", [2, 8])
        ((3,), (2, 8))
    """
    shape = (value,) if _is_count(value) else _sequence(value)
    if not shape or not all(map(_is_count, shape)):
        refuse(name, "an integer of at least 1, or a tuple of them", value)
    return tuple(map(int, shape))


def check_image_shape(name: str, value: Any) -> tuple[int, int, int]:
    """The shape (channels, height, width) of an image.

    Example:
        >>> check_image_shape("image_shape", [1, 8, 8])
        (1, 8, 8)
    """
    shape = _sequence(value)
    if shape is None or len(shape) != 3 or not all(map(_is_count, shape)):
        refuse(name, "(channels, height, width), three integers of at least 1", value)
    channels, height, width = map(int, shape)
    return channels, height, width


def check_number(
    name: str,
    value: Any,
    *,
    above: float | None = None,
    least: float | None = None,
    below: float | None = None,
    most: float | None = None,
) -> float:
    """A finite number within bounds, of which `above` and `below` are themselves excluded.

    Example:
        >>> check_number("scale", float("nan"), above=0)
        Traceback (most recent call last):
        ValueError: scale must be a positive number, got nan.
    """
    number = _number(value)
    if number is None or not _inside(number, above, least, below, most):
        refuse(name, _range(above, least, below, most), value)
    return number


def check_fraction(name: str, value: Any) -> float:
    """A number in [0, 1): a rate of drop-out, the smallest scale.

    Example:
        >>> check_fraction("dropout", 1)
        Traceback (most recent call last):
        ValueError: dropout must be a number in [0, 1), got 1.
    """
    return check_number(name, value, least=0, below=1)


def check_floats(name: str, value: Any) -> np.ndarray:
    """An array of numbers in double precision.

    Example:
        >>> check_floats("x", [1, 2])
        array([1., 2.])
    """
    try:
        array = np.asarray(value)
        is_number = array.dtype.kind in "biuf"
    except ValueError:  # rows of different lengths
        is_number = False
    if not is_number:
        refuse(name, "an array of numbers", value)
    return array.astype(np.float64)


def check_numbers(
    name: str, value: Any, *, above: float | None = None, below: float | None = None
) -> tuple[float, ...]:
    """One or more finite numbers between two bounds, from a number or a sequence of numbers.

    Example:
        >>> check_numbers("length_scales", [1, 2.5], above=0)
        (1.0, 2.5)
    """
    values = (value,) if _number(value) is not None else _sequence(value)
    numbers = map(_number, values or ())
    good = [x for x in numbers if x is not None and _inside(x, above, None, below, None)]
    if not values or len(good) != len(values):
        refuse(name, f"{_range(above, None, below, None)}, or a non-empty sequence of them", value)
    return tuple(good)


def check_weight(
    name: str, value: T, *, above: float | None = None, least: float | None = None
) -> T:
    """A finite number within bounds, or a function of the step such as a schedule; as it came.

    Example:
        >>> check_weight("beta", -1, least=0)
        Traceback (most recent call last):
        ValueError: beta must be a number of at least 0 or a schedule, got -1.
    """
    number = _number(value)
    if callable(value):
        values = getattr(value, "values", None)  # of a Schedule
        good = not isinstance(value, type) and not hasattr(value, "terms")
        points = values if isinstance(values, tuple) else ()
        good = good and all(_inside(point, above, least, None, None) for point in points)
    else:
        good = number is not None and _inside(number, above, least, None, None)
    if not good:
        refuse(name, f"{_range(above, least, None, None)} or a schedule", value)
    return value


def check_flag(name: str, value: Any) -> bool:
    """True or False.

    Example:
        >>> check_flag("drop_last", "no")
        Traceback (most recent call last):
        ValueError: drop_last must be True or False, got 'no'.
    """
    if type(value).__name__ not in ("bool", "bool_"):
        refuse(name, "True or False", value)
    return bool(value)


def check_flag_or_none(name: str, value: Any) -> bool | None:
    """True, False or None, which leaves the choice to the library.

    Example:
        >>> check_flag_or_none("vectorize", "yes")
        Traceback (most recent call last):
        ValueError: vectorize must be True, False or None, got 'yes'.
    """
    if value is not None and type(value).__name__ not in ("bool", "bool_"):
        refuse(name, "True, False or None", value)
    return None if value is None else bool(value)


def check_choice(name: str, value: Any, choices: Iterable[str]) -> str:
    """One of some words.

    Example:
        >>> check_choice("estimator", "stk", ("reparam", "stl"))
        Traceback (most recent call last):
        ValueError: estimator must be one of 'reparam', 'stl', got 'stk'.
    """
    choices = tuple(choices)
    if not isinstance(value, str) or value not in choices:
        refuse(name, f"one of {', '.join(map(repr, choices))}", value)
    return value


def check_name(name: str, value: Any, what: str = "the name of a sample site") -> str:
    """A name that is not empty.

    Example:
        >>> check_name("site", "z")
        'z'
    """
    if not isinstance(value, str) or not value:
        refuse(name, what, value)
    return value


def check_names(name: str, value: Any) -> tuple[str, ...]:
    """The names of one or more sample sites, each once, from a name or a sequence of names.

    Example:
        >>> check_names("sites", "z"), check_names("sites", ["x", "z"])
        (('z',), ('x', 'z'))
    """
    names = (value,) if isinstance(value, str) else _sequence(value)
    good = names and all(isinstance(item, str) and item for item in names)
    if not good or len(set(names or ())) != len(names or ()):
        refuse(name, "the name of a sample site or a tuple of different names", value)
    return tuple(names or ())


def check_callable(name: str, value: T, what: str = "a function") -> T:
    """Something that can be called and is no class.

    Example:
        >>> check_callable("transform", "binarize")
        Traceback (most recent call last):
        ValueError: transform must be a function, got 'binarize'.
    """
    if not callable(value):
        refuse(name, what, value)
    return value


def check_instance(name: str, value: T, kinds: type | tuple[type, ...], what: str) -> T:
    """An object of a kind, which `what` says in words.

    Example:
        >>> check_instance("loss", "elbo", int, "a loss such as ELBO()")
        Traceback (most recent call last):
        ValueError: loss must be a loss such as ELBO(), got 'elbo'.
    """
    if not isinstance(value, kinds):
        refuse(name, what, value)
    return value


def check_seed(name: str, value: Any, least: int = -(2**63)) -> int:
    """An integer of 64 bits that random numbers start from.

    Example:
        >>> check_seed("seed", 2**63)
        Traceback (most recent call last):
        ValueError: seed must be an integer from -2^63 to 2^63 - 1, got 9223372036854775808.
    """
    if not _is_count(value, least) or value >= 2**63:
        refuse(name, f"an integer from {least if least > -1 else '-2^63'} to 2^63 - 1", value)
    return int(value)


def check_permutation(name: str, value: Any, length: int | None = None) -> tuple[int, ...]:
    """A permutation of 0, ..., length - 1 (None: of as many numbers as there are).

    Example:
        >>> check_permutation("order", (0, 2), 2)
        Traceback (most recent call last):
        ValueError: order must be a permutation of 0, ..., 1, got (0, 2).
    """
    order = _sequence(value)
    last = "D - 1" if length is None else f"{length - 1}"
    number = length if length is not None else len(order or ())
    good = order and all(_is_count(i, 0) for i in order)
    if not good or sorted(order or ()) != list(range(number)):
        refuse(name, f"a permutation of 0, ..., {last}", value if order is None else order)
    return tuple(map(int, order or ()))


def _is_count(value: Any, least: int = 1) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


def _sequence(value: Any) -> tuple[Any, ...] | None:
    """The items of a sequence; None for text, for sets and tables, and for what has no items."""
    if isinstance(value, (str, bytes, Mapping, Set)) or not isinstance(value, Iterable):
        return None
    return tuple(value) if getattr(value, "ndim", 1) == 1 else None


def _number(value: Any) -> float | None:
    """A finite float from a number or an array of one, None from all else."""
    if isinstance(value, bool) or type(value).__name__ == "bool_":
        return None
    if not isinstance(value, Real) and getattr(value, "shape", None) != ():
        return None
    try:
        number = float(value)
    except Exception:  # what came is no number, whatever its type says of that
        return None
    return number if math.isfinite(number) else None


def _inside(number: float, *bounds: float | None) -> bool:
    """Whether a number is above, at least, below and at most these, where they are given."""
    above, least, below, most = bounds
    limits = ((above, operator.gt), (least, operator.ge), (below, operator.lt), (most, operator.le))
    return all(limit is None or holds(number, limit) for limit, holds in limits)


def _range(
    above: float | None, least: float | None, below: float | None, most: float | None
) -> str:
    """In words which numbers are good."""
    low = above if least is None else least
    high = below if most is None else most
    if high is not None and low is None:
        return f"a number of at most {high:g}" if most is not None else f"a number below {high:g}"
    if high is not None:
        left = f"[{low:g}" if least is not None else f"({low:g}"
        return f"a number in {left}, {high:g}{')' if most is None else ']'}"
    if low is None:
        return "a finite number"
    if least is not None:
        return f"a number of at least {least:g}"
    return "a positive number" if low == 0 else f"a number above {low:g}"
