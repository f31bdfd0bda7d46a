"""Steps compiled as a whole, and the plain path where that cannot be done or does not repay."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from numpyro_dgm.training.batches import Arrays, Form, Stream, take_rows
from numpyro_dgm.training.step import State, Step, is_finite

__all__: list[str] = []  # for the package, not for users


class ArrayEpochs:
    """Runs steps start, ..., stop - 1 of an epoch over data in memory.

    One compiled loop, whose bounds are arguments, takes all full batches: any division of an epoch
    into calls gives the same numbers to the bit.
    """

    def __init__(self, step: Step, data: Arrays, *, compiled: bool) -> None:
        self.step, self.data = step, data
        self.num_batches: int | None = data.num_batches
        self._loop = jax.jit(self._steps) if compiled else None
        self._single = jax.jit(self._step) if compiled else self._step
        self._shuffle: Callable[..., tuple[Array | None, Array]] = (
            jax.jit(self._keys) if compiled else self._keys
        )

    def begin(self, key: Array, epoch: int) -> None:
        """Shuffle for a new epoch."""
        self._order, self._key = self._shuffle(key, epoch)

    def reach(self, start: int, count: int) -> int:
        """How far the next call may go: `count` steps on, but not past the end of the epoch."""
        return min(start + count, self.data.num_batches)

    def run(self, state: State, start: int, stop: int) -> tuple[State, np.ndarray, bool]:
        """The state after the steps, the values of each, (stop - start, 1 + num_terms), and whether
        all is finite; waits for them.
        """
        values: list[Any] = [np.empty((0, 1 + len(self.step.loss.term_names)))]
        finite: Any = True
        if self._loop is not None and start < (full := min(stop, self.data.num_full)):
            state, log, finite = self._loop(
                state, self.data.arrays, self._order, self._key, start, full
            )
            values.append(np.asarray(log)[start:full])
            start = full
        for index in range(start, stop):
            state, new, finite = self._single(state, *self.batch(index))
            values.append(np.asarray(new)[None])
        together = np.concatenate(values)
        return state, together, bool(finite and np.isfinite(together).all())

    def batch(self, index: int) -> tuple[tuple, Array | None, Array]:
        """Arrays, row numbers and key of one step."""
        rows = None
        if self._order is not None:
            rows = jax.lax.dynamic_slice_in_dim(
                self._order, index * self.data.batch_size, self.data.num_rows(index)
            )
        return take_rows(self.data.arrays, rows), rows, jax.random.fold_in(self._key, index)

    def form(self, index: int) -> Form:
        """The form of a batch."""
        return self.data.form

    def num_rows(self, start: int, stop: int) -> np.ndarray:
        """The sizes of the batches."""
        return np.array([self.data.num_rows(index) for index in range(start, stop)])

    def _keys(self, key: Array, epoch: Any) -> tuple[Array | None, Array]:
        order_key, step_key = jax.random.split(jax.random.fold_in(key, epoch))
        return self.data.order(order_key), step_key

    def _step(
        self, state: State, arrays: tuple, rows: Array | None, key: Array
    ) -> tuple[State, Array, Array]:
        state, values = self.step(state, self.data.form.build(arrays), rows, key)
        return state, values, is_finite(state)

    def _steps(
        self, state: State, arrays: tuple, order: Array | None, key: Array, start: int, stop: int
    ) -> tuple[State, Array, Array]:
        size = self.data.batch_size

        def body(index: Array, carry: tuple[State, Array]) -> tuple[State, Array]:
            state, log = carry
            rows = (
                None if order is None else jax.lax.dynamic_slice_in_dim(order, index * size, size)
            )
            state, values = self.step(
                state,
                self.data.form.build(take_rows(arrays, rows)),
                rows,
                jax.random.fold_in(key, index),
            )
            return state, log.at[index].set(values.astype(log.dtype))

        log = jnp.zeros((self.data.num_full, 1 + len(self.step.loss.term_names)))
        state, log = jax.lax.fori_loop(start, stop, body, (state, log))
        return state, log, is_finite(state)


class StreamEpochs:
    """Runs the steps of an epoch over an iterable of batches, each in a call of its own; keeps the
    batches of the last call.
    """

    def __init__(self, step: Step, data: Stream, *, compiled: bool) -> None:
        self.step, self.data = step, data
        self.num_batches: int | None = data.num_batches
        self._single = jax.jit(self._step, static_argnums=1) if compiled else self._step

    def begin(self, key: Array, epoch: int) -> None:
        """Begin a new pass through the iterable."""
        self._key = jax.random.fold_in(key, epoch)
        self._batches: Iterator[tuple[Form, tuple]] = self.data.epoch()
        self._start = 0
        self._kept: list[tuple[Form, tuple]] = []

    def reach(self, start: int, count: int) -> int:
        """How far the next call may go; fetches the batches for it."""
        self._start = start
        self._kept = [batch for _, batch in zip(range(count), self._batches)]
        if start == 0 and not self._kept:
            raise ValueError(
                "The data gave no batches in this epoch: the iterable is empty or used up."
            )
        return start + len(self._kept)

    def run(self, state: State, start: int, stop: int) -> tuple[State, np.ndarray, bool]:
        """The state after the steps, the values of each, (stop - start, 1 + num_terms), and whether
        all is finite; waits for them.
        """
        values: list[Any] = []
        finite: Any = True
        for index in range(start, stop):
            state, new, finite = self._single(state, self.form(index), *self.batch(index))
            values.append(new)
        together = np.array(values)
        return state, together, bool(finite and np.isfinite(together).all())

    def batch(self, index: int) -> tuple[tuple, None, Array]:
        """Arrays, row numbers (unknown) and key of one step."""
        return self._kept[index - self._start][1], None, jax.random.fold_in(self._key, index)

    def form(self, index: int) -> Form:
        """The form of a batch."""
        return self._kept[index - self._start][0]

    def num_rows(self, start: int, stop: int) -> np.ndarray:
        """The sizes of the batches: rows of the first array."""
        return np.array(
            [
                len(next(a for a in self.batch(index)[0] if a is not None))
                for index in range(start, stop)
            ]
        )

    def _step(
        self, state: State, form: Form, arrays: tuple, rows: None, key: Array
    ) -> tuple[State, Array, Array]:
        state, values = self.step(state, form.build(arrays), rows, key)
        return state, values, is_finite(state)
