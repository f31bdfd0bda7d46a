"""What a flow tells those of its transforms that are solved by steps: which random signs estimate
their traces, and whether they shall note what their paths cost.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, NamedTuple

import jax
from jax import Array
from numpyro.primitives import prng_key

from dgm_core.ode import warn_coarse
from numpyro_dgm.nn.layers import EVALUATION
from numpyro_dgm.nn.ode import rademacher

__all__: list[str] = []  # for the package, not for users


class Noise:
    """The random signs of one distribution: the same for the same shape, so that a draw and its
    score have the same.  Without a key, where no program runs, those of `jax.random.key(0)`.
    """

    def __init__(self, key: Array | None = None) -> None:
        self.key = key

    def signs(self, index: int, num_probes: int, like: Array) -> Array:
        """(num_probes, *like.shape)."""
        key = jax.random.key(0) if self.key is None else self.key
        return rademacher(num_probes, like, key=jax.random.fold_in(key, index))


class _Solving(NamedTuple):
    noise: Noise
    place: int
    notes: list[dict[str, Array]] | None


_solving: ContextVar[_Solving | None] = ContextVar("_solving", default=None)


@contextmanager
def solving(
    noise: Noise, index: int, notes: list[dict[str, Array]] | None = None
) -> Iterator[None]:
    """A block in which one transform of a stack, by its number, is applied."""
    token = _solving.set(_Solving(noise, index, notes))
    try:
        yield
    finally:
        _solving.reset(token)


def signs(num_probes: int, like: Array) -> Array:
    """The signs of the distribution whose transform is applied; outside of one, fixed ones."""
    found = _solving.get() or _Solving(Noise(), 0, None)
    return found.noise.signs(found.place, num_probes, like)


def notes() -> list[dict[str, Array]] | None:
    """Where costs are noted; None where nobody asks."""
    found = _solving.get()
    return found.notes if found else None


def reports(transform: Any, value: Array) -> bool:
    """Whether what is solved is reported: in evaluation, and outside of compiled code."""
    return EVALUATION.get() or not isinstance(value, jax.core.Tracer)


def warn_of_steps(transform: Any, num_steps: int, entries: int, errors: Array) -> None:
    """Warn where log-densities change by so much with twice the steps."""
    warn = partial(warn_coarse, repr(transform), num_steps, entries)
    jax.debug.callback(warn, jax.lax.stop_gradient(errors))


def key_of_program() -> Array | None:
    """A key of the program that runs; None where none does, or without keys."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is none
        return prng_key()
