"""Switching networks between training and evaluation, and finding the networks that a
program uses.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from numpyro_dgm.nn.layers import EVALUATION

__all__ = ["evaluation_mode"]


@contextmanager
def evaluation_mode(*callables: Callable[..., Any]) -> Iterator[None]:
    """Inside this block the models and guides given run in evaluation: drop-out is off, batch
    normalization uses its running statistics.

    Args:
        the models, guides or networks that are called inside the block. Afterwards everything is as
        it was before.
    """
    token = EVALUATION.set(True)
    try:
        yield
    finally:
        EVALUATION.reset(token)
