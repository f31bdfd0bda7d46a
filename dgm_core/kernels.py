"""What transition kernels of either backend check without a tensor."""

from __future__ import annotations

from typing import Any

import numpy as np

from dgm_core.arguments import check_callable, check_number, refuse

__all__ = ["check_kernel", "check_scale", "wrong_shape"]


def check_kernel(name: str, value: Any) -> Any:
    """A transition kernel: an object that is called, with a method `noise`.

    Example:
        >>> check_kernel("kernel", 3)
        Traceback (most recent call last):
        ValueError: kernel must be a transition kernel such as MALA(0.1), got 3.
    """
    what = "a transition kernel such as MALA(0.1)"
    if isinstance(value, type) or not hasattr(value, "noise"):
        refuse(name, what, value)
    return check_callable(name, value, what)


def check_scale(name: str, value: Any) -> Any:
    """A positive number, or an array of the backend, which may be learned; as it came.

    Example:
        >>> check_scale("step_size", -0.1)
        Traceback (most recent call last):
        ValueError: step_size must be a positive number, got -0.1.
    """
    if not np.isscalar(value) and hasattr(value, "shape") and hasattr(value, "dtype"):
        if "float" not in str(value.dtype):
            refuse(name, "a positive number or an array of real numbers", value)
        return value
    return check_number(name, value, above=0)


def wrong_shape(found: tuple[int, ...], position: tuple[int, ...]) -> str:
    """What to say of a log-density that is not one number per chain."""
    return (
        "log_density must map positions (*batch, *event) to (*batch,), one number for each chain, "
        f"got shape {found} for positions of shape {position}."
    )
