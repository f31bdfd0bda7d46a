"""One fit at a time in a process."""

import functools
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
_LOCK = threading.RLock()


def one_at_a_time(function: Callable[P, T]) -> Callable[P, T]:
    """`function`, whose calls from several threads wait for each other.

    The stacks of handlers of Pyro and NumPyro, Pyro's parameter store and torch's random state are
    those of the whole process: two programs that are traced at once would mix.  A call inside a
    call, in the same thread, does not wait.

    Example:
        >>> one_at_a_time(len)([1, 2])
        2
    """

    @functools.wraps(function)
    def alone(*args: P.args, **kwargs: P.kwargs) -> T:
        with _LOCK:
            return function(*args, **kwargs)

    return alone
