"""Steps compiled as a whole, and the plain path where that cannot be done or does not repay."""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from dgm_core.training.batches import Form
from numpyro_dgm.training.batches import Arrays, Stream, take_rows
from numpyro_dgm.training.guard import Finite
from numpyro_dgm.training.step import State, Step

__all__: list[str] = []  # for the package, not for users

_BYTES = 16e6  # batches of a stream are fetched before they are needed up to this size


class ArrayEpochs:
    """Runs steps start, ..., stop - 1 of a pass over data in memory.

    One compiled loop, whose bounds are arguments, takes all full batches: any division of a pass
    into calls gives the same numbers to the bit.  Where a batch holds all data, `repeats` of them
    make a pass.  Sequences in buckets have batches of several sizes, each step is a call.
    """

    def __init__(
        self, step: Step, data: Arrays, finite: Finite, *, compiled: bool, repeats: int | None
    ) -> None:
        self.step, self.data, self.finite = step, data, finite
        whole = data.batch_size == data.num_data
        self.num_full = (repeats or 1) if whole else data.num_full
        self.num_batches: int = self.num_full if whole else data.num_batches
        alike = data.buckets is None
        self._loop = jax.jit(self._steps) if compiled and alike else None
        self._single = jax.jit(self._step) if compiled else self._step
        self._shuffle: Callable[..., tuple[Array | None, Array]] = (
            jax.jit(self._keys) if compiled and alike else self._keys
        )

    def begin(self, key: Array, number: int, start: int = 0) -> None:
        """Shuffle for a new pass, which is to go on at a batch."""
        self._order, self._key = self._shuffle(key, number)

    def reach(self, start: int, count: int) -> int:
        """How far the next call may go: `count` steps on, but not past the end of the pass."""
        return min(start + count, self.num_batches)

    def run(self, state: State, start: int, stop: int) -> tuple[State, np.ndarray, bool]:
        """The state after the steps, the values of each, and whether all is finite.

        Waits for them; values: (stop - start, 1 + num_terms).
        """
        values: list[Any] = [np.empty((0, 1 + len(self.step.loss.term_names)))]
        good = None
        if self._loop is not None and start < (full := min(stop, self.num_full)):
            arrays = self.data.arrays
            state, log, good = self._loop(state, arrays, self._order, self._key, start, full)
            values.append(np.asarray(log)[start:full])
            start = full
        for index in range(start, stop):
            state, new = self._single(state, *self.batch(index))
            values.append(np.asarray(new)[None])
            good = None
        together = np.concatenate(values)
        good = self.finite(state) if good is None else good
        return state, together, bool(np.isfinite(together).all() and good)

    def batch(self, index: int) -> tuple[tuple, Array | None, Array]:
        """Arrays, row numbers and key of one step."""
        rows = None
        if self._order is not None:
            start, size = index * self.data.batch_size, self.data.num_rows(index)
            rows = jax.lax.dynamic_slice_in_dim(self._order, start, size)
        return self.data.take(rows), rows, jax.random.fold_in(self._key, index)

    def form(self, index: int) -> Form:
        """The form of a batch."""
        return self.data.form

    def num_rows(self, start: int, stop: int) -> np.ndarray:
        """The sizes of the batches."""
        full, last = self.data.batch_size, self.data.num_rows(self.data.num_full)
        return np.array([full if i < self.num_full else last for i in range(start, stop)])

    def _keys(self, key: Array, number: Any) -> tuple[Array | None, Array]:
        order_key, step_key = jax.random.split(jax.random.fold_in(key, number))
        return self.data.order(order_key), step_key

    def _step(
        self, state: State, arrays: tuple, rows: Array | None, key: Array
    ) -> tuple[State, Array]:
        return self.step(state, self.data.form.build(arrays), rows, key)

    def _steps(
        self,
        state: State,
        arrays: tuple,
        order: Array | None,
        key: Array,
        start: int,
        stop: int,
    ) -> tuple[State, Array, Array]:
        size = self.data.batch_size

        def body(index: Array, carry: tuple[State, Array]) -> tuple[State, Array]:
            state, log = carry
            rows = None
            if order is not None:
                rows = jax.lax.dynamic_slice_in_dim(order, index * size, size)
            batch = self.data.form.build(take_rows(arrays, rows))
            state, values = self.step(state, batch, rows, jax.random.fold_in(key, index))
            return state, log.at[index].set(values.astype(log.dtype))

        log = jnp.zeros((self.num_full, 1 + len(self.step.loss.term_names)))
        state, log = jax.lax.fori_loop(start, stop, body, (state, log))
        return state, log, self.finite(state)


class StreamEpochs:
    """Runs the steps of a pass over an iterable of batches, each in a call of its own.

    Keeps the batches of the last call.
    """

    def __init__(self, step: Step, data: Stream, finite: Finite, *, compiled: bool) -> None:
        self.step, self.data, self.finite = step, data, finite
        self.num_batches: int | None = data.num_batches
        self._single = jax.jit(self._step, static_argnums=1) if compiled else self._step

    def begin(self, key: Array, number: int, start: int = 0) -> None:
        """Begin a new pass through the iterable, which is to go on at a batch."""
        self._key = jax.random.fold_in(key, number)
        self._batches: Iterator[tuple[Form, tuple]] = islice(self.data.epoch(), start, None)
        self._start = start
        self._kept: list[tuple[Form, tuple]] = []

    def reach(self, start: int, count: int) -> int:
        """How far the next call may go; fetches the batches for it, as many as memory allows."""
        self._start, self._kept, held = start, [], 0
        while len(self._kept) < count and held < _BYTES:
            if (batch := next(self._batches, None)) is None:
                break
            self._kept.append(batch)
            held += sum(array.nbytes for array in batch[1] if array is not None)
        if start == 0 and not self._kept:
            raise ValueError(
                "The data gave no batches in this epoch: the iterable is empty or used up."
            )
        return start + len(self._kept)

    def run(self, state: State, start: int, stop: int) -> tuple[State, np.ndarray, bool]:
        """The state after the steps, the values of each, and whether all is finite.

        Waits for them; values: (stop - start, 1 + num_terms).
        """
        values: list[Any] = [np.empty((0, 1 + len(self.step.loss.term_names)))]
        for index in range(start, stop):
            state, new = self._single(state, self.form(index), *self.batch(index))
            values.append(np.asarray(new)[None])
        together = np.concatenate(values)
        return state, together, bool(np.isfinite(together).all() and self.finite(state))

    def batch(self, index: int) -> tuple[tuple, None, Array]:
        """Arrays, row numbers (unknown) and key of one step."""
        return self._kept[index - self._start][1], None, jax.random.fold_in(self._key, index)

    def form(self, index: int) -> Form:
        """The form of a batch."""
        return self._kept[index - self._start][0]

    def num_rows(self, start: int, stop: int) -> np.ndarray:
        """The sizes of the batches: rows of the first array."""
        arrays = (self.batch(index)[0] for index in range(start, stop))
        return np.array([len(next(a for a in batch if a is not None)) for batch in arrays])

    def _step(
        self, state: State, form: Form, arrays: tuple, rows: None, key: Array
    ) -> tuple[State, Array]:
        return self.step(state, form.build(arrays), rows, key)
