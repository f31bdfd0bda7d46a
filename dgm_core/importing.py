"""Importing libraries without the changes that they make to the state of the process."""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


@contextmanager
def unchanged() -> Iterator[None]:
    """A block after which warning filters and the seeds of numpy and Python are as before.

    Example:
        >>> before = list(warnings.filters)
        >>> with unchanged():
        ...     warnings.simplefilter("error")
        >>> warnings.filters == before
        True
    """
    numbers, more = np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        with warnings.catch_warnings():
            yield
    finally:
        np.random.set_state(numbers)  # noqa: NPY002
        random.setstate(more)
