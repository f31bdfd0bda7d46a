"""What models need that translate between two domains."""

from __future__ import annotations

from typing import Any

from dgm_core.arguments import refuse, shown

__all__ = ["check_domains", "check_rows", "check_translator"]


def check_domains(x_shape: tuple[int, ...], y_shape: tuple[int, ...]) -> None:
    """Raises ValueError unless the default networks translate between data of these shapes.

    Example:
        >>> check_domains((1, 8, 8), (3, 8, 8))
    """
    ndim = len(x_shape)
    if ndim != len(y_shape) or ndim not in (1, 3) or (ndim == 3 and x_shape[1:] != y_shape[1:]):
        raise ValueError(
            "The default networks translate between vectors, or between images (channels, height, "
            f"width) of one height and width, got x_shape={x_shape} and y_shape={y_shape}: give "
            "to_y and to_x."
        )


def check_rows(x: Any, y: Any, x_shape: tuple[int, ...], y_shape: tuple[int, ...]) -> int:
    """The number of rows of both; ValueError for other shapes, none, or unequal numbers.

    Example:
        >>> import numpy as np
        >>> check_rows(np.zeros((5, 2)), None, (2,), (3,))
        5
    """
    numbers = {}
    for name, data, shape in (("x", x, x_shape), ("y", y, y_shape)):
        if data is None:
            continue
        found = tuple(getattr(data, "shape", ()))
        if not found or found[1:] != shape:
            got = found if hasattr(data, "shape") else shown(data)
            raise ValueError(
                f"{name} must have shape (batch, {', '.join(map(str, shape))}), got {got}."
            )
        numbers[name] = found[0]
    if not numbers:
        raise ValueError("CycleGAN translates data: call the model with x, with y, or with both.")
    if len(set(numbers.values())) > 1:
        raise ValueError(
            "x and y need not be pairs, but a batch holds equally many rows of both, got "
            f"{numbers['x']} and {numbers['y']}: pass data sets as Unpaired(x, y) with a "
            "batch_size."
        )
    return next(iter(numbers.values()))


def check_translator(name: str, network: Any) -> Any:
    """A network.

    Example:
        >>> check_translator("to_y", abs)
        <built-in function abs>
    """
    if isinstance(network, type) or not callable(network):
        refuse(name, "a network from one domain to the other", network)
    return network
