"""What a conditional is given: a vector, a feature map, a sequence, a label, or several of these.

`context_shape` says which, as an argument: an int (a vector of that size; 0 for none), a tuple (an
array of that shape), `Labels(num_classes)` (an integer), or a tuple of these (several contexts side
by side, which come as a tuple of arrays). As an attribute it is always a tuple, () for none.
"""

from __future__ import annotations

from inspect import signature
from math import prod
from numbers import Integral
from typing import Any, TypeAlias

from dgm_core.arguments import check_count, check_shape, refuse, shown

__all__ = ["ContextShape", "Labels", "check_context", "check_context_shape", "context_size"]

ContextShape: TypeAlias = int | tuple[Any, ...]


class Labels(tuple[int]):
    """Integers 0, ..., num_classes - 1 as a context; networks see them one-hot.

    Args:
        num_classes: at least 1.

    Shapes:
        a context (*batch,) of integers.

    Raises:
        ValueError: if num_classes is no such integer. A conditional raises it for labels that are
            no integers or out of range; where values are not known, as under `jax.jit`, what comes
            of a label out of range is NaN.

    Example:
        >>> Labels(10)
        Labels(10)
    """

    __slots__ = ()

    def __new__(cls, num_classes: int) -> Labels:
        return super().__new__(cls, (check_count("num_classes", num_classes),))

    @property
    def num_classes(self) -> int:
        """The number of labels."""
        return self[0]

    def __getnewargs__(self) -> tuple[int]:
        return (self[0],)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Labels) and self[0] == other[0]

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash((Labels, self[0]))

    def __repr__(self) -> str:
        return f"Labels({self[0]})"


class TakesContext:
    """What is built with context_shape=..., and says so where its former name is given.

    Raises:
        TypeError: for context_dim=...

    Example:
        >>> TakesContext(context_dim=3)
        Traceback (most recent call last):
        TypeError: TakesContext takes context_shape=3; context_dim was its name before contexts \
had shapes.
    """

    __slots__ = ()

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        if "context_dim" in kwargs and "context_dim" not in signature(cls.__init__).parameters:
            raise TypeError(
                f"{cls.__name__} takes context_shape={shown(kwargs['context_dim'])}; context_dim "
                "was its name before contexts had shapes."
            )
        return super().__new__(cls)


def check_context_shape(name: str, value: Any) -> tuple[Any, ...]:
    """The shape of a context from a size, a shape, labels, or a tuple of these.

    Example:
        >>> check_context_shape("context_shape", 3), check_context_shape("context_shape", 0)
        ((3,), ())
        >>> check_context_shape("context_shape", ((2, 8, 8), Labels(10), 5))
        ((2, 8, 8), Labels(10), (5,))
    """
    try:
        if isinstance(value, (list, tuple)) and not isinstance(value, Labels):
            if not all(isinstance(part, Integral) for part in value):
                return tuple(_one(name, part) for part in value)
            return check_shape(name, value) if value else ()
        if isinstance(value, Integral) and not check_count(name, value, 0):
            return ()
        return _one(name, value)
    except ValueError:
        wanted = (
            "an integer of at least 0, a tuple of integers of at least 1, Labels(num_classes), "
            "or a tuple of these"
        )
        refuse(name, wanted, value)


def _one(name: str, value: Any) -> tuple[int, ...]:
    return value if isinstance(value, Labels) else check_shape(name, value)


def is_several(context_shape: tuple[Any, ...]) -> bool:
    """Whether a checked shape is that of several contexts side by side.

    Example:
        >>> is_several((2, 8, 8)), is_several(((2, 8, 8), Labels(10)))
        (False, True)
    """
    return any(isinstance(part, tuple) for part in context_shape)


def parts_of(context_shape: tuple[Any, ...]) -> tuple[tuple[int, ...], ...]:
    """The shapes of all contexts of a checked shape; () for none.

    Example:
        >>> parts_of((2, 8, 8)), parts_of(())
        (((2, 8, 8),), ())
    """
    return context_shape if is_several(context_shape) or not context_shape else (context_shape,)


def batches_differ(batches: Any) -> str:
    """What to say of contexts side by side that are not of as many cases."""
    shapes = ", ".join(str(tuple(batch)) for batch in batches)
    return (
        f"Contexts side by side must have batch shapes that broadcast together, got {shapes}: hand "
        "over as many rows in each."
    )


def context_size(context_shape: ContextShape) -> int:
    """The number of entries of a context, labels one-hot, several one behind the other.

    Example:
        >>> context_size(0), context_size((2, 8, 8)), context_size((Labels(10), 5))
        (0, 128, 15)
    """
    parts = parts_of(check_context_shape("context_shape", context_shape))
    return sum(map(prod, parts))


def shown_shape(shape: tuple[Any, ...]) -> str:
    """A checked shape as it is written as an argument.

    Example:
        >>> shown_shape((3,)), shown_shape((2, 8, 8)), shown_shape(Labels(10)), shown_shape(())
        ('3', '(2, 8, 8)', 'Labels(10)', '0')
    """
    if len(shape) > 1 or isinstance(shape, Labels):
        return str(shape)
    return str(shape[0]) if shape else "0"


def map_channels(context_shape: tuple[Any, ...], pixels: tuple[int, ...]) -> int:
    """The channels of a context that is seen as a map with these pixels (height, width); 0 if there
    is no map in it.

    A map with a multiple of the pixels is taken in blocks, whose entries become channels; vectors
    and labels beside a map are the same in all pixels. ValueError for a map with other pixels.

    Example:
        >>> map_channels(((2, 8, 8), Labels(10)), (4, 4)), map_channels((10,), (4, 4))
        (18, 0)
    """
    parts = parts_of(context_shape)
    if not any(len(part) == 3 for part in parts):
        return 0
    return sum(prod(part) // prod(pixels) if is_map(part, pixels) else prod(part) for part in parts)


def is_map(shape: tuple[int, ...], pixels: tuple[int, ...]) -> bool:
    """Whether a context is a map (channels, height, width); ValueError for other pixels than these
    or a multiple of them.

    Example:
        >>> is_map((2, 8, 8), (4, 4)), is_map((10,), (4, 4))
        (True, False)
    """
    if len(shape) != 3:
        return False
    factor = shape[1] // pixels[0]
    if not factor or shape[1:] != (factor * pixels[0], factor * pixels[1]):
        raise ValueError(
            "A map as context of an image must have its height and width, or a multiple of both: "
            f"expected (channels, {pixels[0]}, {pixels[1]}), got {shape}; give it flattened, with "
            f"context_shape={prod(shape)}, where all pixels depend on all of it."
        )
    return True


def frames_of(shape: tuple[int, ...], steps: int) -> int:
    """The frames of a context (frames, channels) over time, each of which holds for as many of the
    steps; 0 for a context of another kind, the same at all steps.

    ValueError for a number of frames that does not divide the steps.

    Example:
        >>> frames_of((8, 3), 16), frames_of((5,), 16), frames_of(Labels(10), 16)
        (8, 0, 0)
    """
    if len(shape) != 2:
        return 0
    if steps % shape[0]:
        raise ValueError(
            f"A sequence as context must have a number of frames that divides the {steps} steps: "
            f"expected (frames, channels), got {shape}; give it flattened, with context_shape="
            f"{prod(shape)}, where all steps depend on all of it."
        )
    return shape[0]


def check_context(owner: Any, context: Any, context_shape: tuple[Any, ...], name: str = "") -> None:
    """ValueError unless `context` (one array, a tuple of arrays, or None) has the shape that its
    owner needs, or an argument with this name must have.

    Example:
        >>> import numpy as np
        >>> check_context("IAF(2)", np.zeros((5, 4)), (3,))
        Traceback (most recent call last):
        ValueError: IAF(2) needs a context of shape (*batch, 3), got (5, 4).
        >>> check_context(None, np.zeros(5), Labels(3), name="y")
        Traceback (most recent call last):
        ValueError: y must be an array of integer labels of shape (*batch,), got float64 (5,).
    """
    if not context_shape:
        if context is not None:
            raise ValueError(
                f"{owner} takes no context, got {_form(context)}; build it with context_shape=..."
            )
    elif not is_several(context_shape):
        if wrong := _wrong(context, context_shape):
            needs = f"{name} must be an array" if name else f"{owner} needs a context"
            raise ValueError(f"{needs} {wrong}")
    else:
        needs = f"{name} must be" if name else f"{owner} needs"
        if not isinstance(context, (list, tuple)) or len(context) != len(context_shape):
            raise ValueError(
                f"{needs} {len(context_shape)} contexts side by side, a tuple of arrays with the "
                f"shapes {context_shape} behind the batch, got {_form(context)}."
            )
        for index, part in enumerate(context):
            if wrong := _wrong(part, context_shape[index]):
                raise ValueError(f"{needs}, as context {index}, an array {wrong}")


def _wrong(context: Any, shape: tuple[int, ...]) -> str:
    """What one context should be and is, empty where it is right."""
    found = tuple(getattr(context, "shape", ()))
    if isinstance(shape, Labels):
        dtype = str(getattr(context, "dtype", "")).removeprefix("torch.")
        if "int" not in dtype:
            kind = f"{dtype} " if dtype else ""
            return f"of integer labels of shape (*batch,), got {kind}{_form(context)}."
    elif not hasattr(context, "shape") or found[max(0, len(found) - len(shape)) :] != shape:
        return f"of shape (*batch, {', '.join(map(str, shape))}), got {_form(context)}."
    return ""


def _form(context: Any) -> str:
    """How a sentence names what came: none, a shape, or the value itself."""
    if context is None:
        return "none"
    if isinstance(context, (list, tuple)):
        return f"({', '.join(map(_form, context))})"
    return str(tuple(context.shape)) if hasattr(context, "shape") else shown(context)


def check_expanded(batch_shape: Any, wanted: Any) -> tuple[int, ...]:
    """The batch shape that an expansion asks for. ValueError where it is no larger one.

    Example:
        >>> check_expanded((2, 1), (2, 5))
        (2, 5)
        >>> check_expanded((2, 5), (1,))
        Traceback (most recent call last):
        ValueError: The batch shape (2, 5) cannot be expanded to (1,).
    """
    before, after = tuple(batch_shape), tuple(wanted)
    sizes = zip(before[::-1], after[::-1], strict=False)
    if len(after) < len(before) or any(m not in (1, n) for m, n in sizes):
        raise ValueError(f"The batch shape {before} cannot be expanded to {after}.")
    return after


def check_map(name: str, shape: Any, wanted: Any) -> None:
    """Raise a ValueError unless a map has the height and width of the smallest one of a network.

    Example:
        >>> check_map("in_dim", (4, 2, 2), (4, 2, 2))
    """
    if shape != wanted:
        raise ValueError(f"{name} must be {wanted}, the smallest map of the network, got {shape}.")


def check_end(owner: Any, value: Any, shape: int | tuple[int, ...]) -> int:
    """How many leading dimensions a value has before one of a shape; a ValueError for another.

    Example:
        >>> from types import SimpleNamespace
        >>> check_end("MLP(2)", SimpleNamespace(shape=(7, 2)), 2)
        1
    """
    end = shape if isinstance(shape, tuple) else (shape,)
    split = len(value.shape) - len(end)
    if split < 0 or tuple(value.shape[split:]) != end:
        what = (
            f"a map of shape {end}" if isinstance(shape, tuple) else f"a last dimension of {shape}"
        )
        raise ValueError(f"{owner} expects {what}, got shape {tuple(value.shape)}.")
    return split


def step_channels(context_shape: tuple[Any, ...], steps: tuple[int, ...]) -> int:
    """The numbers that each step of a sequence (T,), or each pixel of an image (height, width),
    is given of a context: those of its own step or pixel where the context has as many, and all of
    what has none.

    Example:
        >>> step_channels(((6, 2), Labels(10)), (6,)), step_channels((3, 4, 4), (4, 4))
        (12, 3)
    """
    if len(steps) == 2:
        return map_channels(context_shape, steps) or context_size(context_shape)
    for part in parts_of(context_shape):
        if len(part) == 2 and part[0] != steps[0]:
            raise ValueError(
                f"A sequence as context of a sequence must have its steps: expected ({steps[0]}, "
                f"features), got {part}; give it flattened, with context_shape={prod(part)}, or "
                "as a prefix."
            )
    return sum(part[1] if len(part) == 2 else prod(part) for part in parts_of(context_shape))


def token_shapes(context_shape: tuple[Any, ...]) -> list[tuple[int, int]]:
    """The number of vectors, and their size, that each part of a context makes: the steps of a
    sequence, the pixels of a map; a vector or a label is one.

    Example:
        >>> token_shapes(((6, 2), Labels(10), (3, 4, 4)))
        [(6, 2), (1, 10), (16, 3)]
    """
    shapes = []
    for part in parts_of(context_shape):
        if len(part) == 3:
            shapes.append((part[1] * part[2], part[0]))
        else:
            shapes.append((part[0], part[1]) if len(part) == 2 else (1, prod(part)))
    return shapes
