"""The score of a run on data that it does not train on.

In evaluation mode, with the same random numbers every time.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from dgm_core.training.batches import Form
from numpyro_dgm.nn import evaluation_mode
from numpyro_dgm.training.batches import Arrays, Stream, take_rows
from numpyro_dgm.training.guard import watched_values
from numpyro_dgm.training.step import State, Step

__all__: list[str] = []  # for the package, not for users


class Validation:
    """Mean of a loss over validation data.

    `step` brings model, guide and loss, `key` the random numbers.
    """

    def __init__(self, step: Step, data: Arrays | Stream, key: Array, *, compiled: bool) -> None:
        self.step, self.data, self.key = step, data, key
        self._values = jax.jit(self._evaluate, static_argnums=0) if compiled else self._evaluate

    def __call__(self, state: State, params: dict[str, Any]) -> dict[str, float]:
        """ "validation", the loss per datum, and "validation/<term>" for each of its terms."""
        values, sizes = [], []
        with evaluation_mode(self.step.model, self.step.guide):
            for index, (form, arrays, rows) in enumerate(self._batches()):
                key = jax.random.fold_in(self.key, index)
                args = (form, params, state.mutable, state.step, arrays, rows, key)
                values.append(self._values(*args))
                given = arrays if rows is None else (rows,)
                sizes.append(len(next(array for array in given if array is not None)))
        if not values:
            raise ValueError(
                "The validation data gave no batches in this epoch: the iterable is empty or "
                "used up."
            )
        means = np.average(np.stack(values).astype(float), axis=0, weights=sizes)
        names = ("validation", *(f"validation/{name}" for name in self.step.loss.term_names))
        return dict(zip(names, means.tolist(), strict=True))

    def explain(self, state: State, params: dict[str, Any]) -> tuple[str | None, str]:
        """The first site that is not finite in a score that is not, and why."""
        with evaluation_mode(self.step.model, self.step.guide):
            for index, (form, arrays, rows) in enumerate(self._batches()):
                key = jax.random.fold_in(self.key, index)
                batch, key = self.step.prepare(form.build(take_rows(arrays, rows)), key)
                notes, _ = watched_values(self.step, params, state, batch, None, key)
                if notes:
                    return notes[0]
        return None, "every site is finite"

    def _batches(self) -> Any:
        if isinstance(self.data, Stream):
            yield from ((form, arrays, None) for form, arrays in self.data.epoch())
            return
        data = self.data
        for start in range(0, data.num_data, data.batch_size):
            yield (
                data.form,
                data.arrays,
                jnp.arange(start, min(start + data.batch_size, data.num_data)),
            )

    def _evaluate(
        self,
        form: Form,
        params: dict[str, Any],
        mutable: dict[str, Any],
        step: Array,
        arrays: tuple,
        rows: Array | None,
        key: Array,
    ) -> Array:
        batch, key = self.step.prepare(form.build(take_rows(arrays, rows)), key)
        return self.step.evaluate(params, mutable, batch, None, key, step)[1][0]
