"""The description that a resumed run is recognized by."""

from __future__ import annotations

import functools
import hashlib
import inspect
import re
from collections.abc import Mapping
from typing import Any

import numpy as np


def describe(value: Any) -> Any:
    """A JSON-able description of an argument: equal for equal arguments, also in another process.

    Numbers, strings and None stay; dicts and sequences are described item by item; arrays (anything
    that numpy takes) become dtype, shape and the SHA-256 of their contents; functions their
    qualified name and a hash of their code; partials their parts; all else its `repr`, without
    memory addresses.

    >>> describe({"weights": np.zeros(3), "loss": len, "size": (2, None)})["size"]
    [2, None]
    >>> describe(np.zeros(3, np.float32))[:12], describe(functools.partial(int, base=2))
    ('float32 (3,)', {'partial': 'builtins.int', 'args': [], 'keywords': {'base': 2}})
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {str(key): describe(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [describe(item) for item in value]
    if isinstance(value, functools.partial):
        return {
            "partial": describe(value.func),
            "args": describe(value.args),
            "keywords": describe(value.keywords),
        }
    if inspect.isclass(value) or inspect.isroutine(value):
        name = f"{value.__module__}.{value.__qualname__}"
        code = getattr(value, "__code__", None)
        return (
            name
            if code is None
            else (
                f"{name} "
                f"{hashlib.sha256(code.co_code + repr(_constants(code)).encode()).hexdigest()[:16]}"
            )
        )
    if hasattr(value, "__array__"):
        array = np.ascontiguousarray(value)
        return f"{array.dtype} {array.shape} {hashlib.sha256(array.tobytes()).hexdigest()[:16]}"
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))


def _constants(code: Any) -> list[Any]:
    return [
        [*_constants(item), item.co_code] if hasattr(item, "co_code") else item
        for item in code.co_consts
    ]


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The names whose descriptions differ, sorted.

    >>> difference({"seed": 0, "batch_size": 10}, {"seed": 1, "batch_size": 10, "drop_last": False})
    ['drop_last', 'seed']
    """
    absent = object()
    return sorted(
        name
        for name in before.keys() | now.keys()
        if before.get(name, absent) != now.get(name, absent)
    )
