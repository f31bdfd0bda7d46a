"""What to do when a number is not finite: find where it began, and go back to what was good."""

import copy
import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpyro.distributions.distribution import validation_enabled
from numpyro.primitives import Messenger

from dgm_core.schedules import value_of
from numpyro_dgm.losses import Loss
from numpyro_dgm.losses.state import STATES
from numpyro_dgm.training.step import State, Step

__all__: list[str] = []  # for the package, not for users

Where = tuple[str | None, str, str]  # the site or parameter; what is not finite; why


class Finite:
    """Whether all that a step changes is finite; what was not so at the start does not count.

    That is parameters, the optimizer's state, the average, running statistics and critics.
    """

    def __init__(self, state: State) -> None:
        self._looked_at = [bool(good) for good in _finite([leaf for _, leaf in _floats(state)])]
        self._all = jax.jit(self._check)
        weights = list(_floats((state.params, state.mutable.get(STATES, {}))))
        for (path, _), holds_nan in zip(weights, _nan([leaf for _, leaf in weights])):
            if holds_nan:
                name = path[1].key
                raise ValueError(
                    f"'{name}' holds NaN before the first step: start from finite weights."
                )

    def __call__(self, state: State) -> Array:
        """One truth value."""
        return self._all(state)

    def first_bad(self, state: State) -> tuple[str | None, str] | None:
        """The first array that is not finite, by site and name."""
        floats = list(_floats(state))
        finite = _finite([leaf for _, leaf in floats])
        found = zip(floats, self._looked_at, finite, strict=True)
        bad = [path for (path, _), looked_at, good in found if looked_at and not good]
        bad.sort(key=lambda path: path[0].name != "mutable")  # critics take their step first
        return self._words(bad[0]) if bad else None

    def _check(self, state: State) -> Array:
        pairs = zip(_floats(state), self._looked_at, strict=True)
        finite = [jnp.isfinite(leaf).all() for (_, leaf), looked_at in pairs if looked_at]
        return jnp.array(finite).all()

    def _words(self, path: tuple) -> tuple[str | None, str]:
        kind, *rest = path
        if kind.name == "params":
            return rest[0].key, f"parameter '{rest[0].key}'"
        if kind.name == "average":
            return rest[0].key, f"the average of parameter '{rest[0].key}'"
        if kind.name == "optim":
            return None, f"the state of the optimizer, {jax.tree_util.keystr(tuple(rest))}"
        if rest[0].key == STATES:
            term, part = rest[1].key, rest[2].key
            inside = jax.tree_util.keystr(tuple(rest[3:]))
            if part == "optim":
                return term, f"the state of the optimizer of the critic of {term}"
            if part == "weights":
                return term, f"weight '{inside}' of the critic of {term}"
            return term, f"'{part}{inside}' in the state of {term}"
        names = [entry.key for entry in rest if hasattr(entry, "key")]
        return None, f"the running statistic '{'.'.join(names)}'"


def last_good(epochs: Any, state: State, start: int, stop: int) -> tuple[State, int]:
    """The state before the first step that spoils it, and that step.

    Runs start, ..., stop - 1 again in halves: about log2(stop - start) times those steps.
    """
    good, bad = start, stop  # after the steps before `good` all is finite, before `bad` it is not
    while bad - good > 1:
        middle = (good + bad) // 2
        if epochs.run(state, start, middle)[2]:
            good = middle
        else:
            bad = middle
    return epochs.run(state, start, good)[0], good


def explain_nonfinite(epochs: Any, state: State, index: int) -> Where:
    """The first site that is not finite in a step, what is not finite, and why.

    Runs that step once more, uncompiled, from the state before it.
    """
    step: Step = epochs.step
    arrays, rows, rng_key = epochs.batch(index)
    batch, key = step.prepare(epochs.form(index).build(arrays), rng_key)
    factor = step.updates.factor(int(state.step))
    if not math.isfinite(factor) or factor < 0:
        return None, "The learning rate is no number of at least 0", f"lr_schedule gives {factor}"
    notes, values = watched_values(step, state.params, state, batch, rows, key)
    if not notes and np.isfinite(values).all():

        def loss(params: dict[str, Any]) -> Array:
            return step.evaluate(params, state.mutable, batch, rows, key, state.step)[0]

        notes = [
            (name, f"the gradient with respect to parameter '{name}' is not finite")
            for name, gradient in jax.grad(loss)(state.params).items()
            if _first_bad(gradient)
        ]
    subject = _subject(step.loss, values)
    if notes:
        return notes[0][0], subject, notes[0][1]
    for words, weight, least in step.loss.schedules:
        now = float(value_of(weight, state.step))
        if not math.isfinite(now) or now < least:
            return None, subject, f"{words} is {now}"
    after = epochs.run(state, index, index + 1)[0]
    if spoiled := epochs.finite.first_bad(after):
        return spoiled[0], subject, f"the step makes {spoiled[1]} not finite"
    return None, subject, "every site is finite"


def watched_values(
    step: Step, params: dict[str, Any], state: State, batch: Any, rows: Array | None, key: Array
) -> tuple[list[tuple[str, str]], np.ndarray]:
    """What is not finite in one run of guide and model, by site, and the loss and its terms."""
    notes: list[tuple[str, str]] = []
    watched = copy.copy(step)
    watched.model = _Watch(step.model, "model", notes)
    watched.guide = _Watch(step.guide, "guide", notes)
    with warnings.catch_warnings(), validation_enabled(False):  # numpyro would complain, and raise
        warnings.simplefilter("ignore")
        _, (values, _) = watched.evaluate(params, state.mutable, batch, rows, key, state.step)
        jax.effects_barrier()
    notes.sort(key=lambda note: " observes " not in note[1])  # the cause of all else
    return notes, np.asarray(values)


def _subject(loss: Loss, values: np.ndarray) -> str:
    names = (*loss.term_names, "The loss")
    numbers = (*values[1:].tolist(), float(values[0]))
    bad = (f"{name} is {value}" for name, value in zip(names, numbers) if not math.isfinite(value))
    return next(bad, "The update is not finite")


class _Watch(Messenger):
    """Notes, in the order in which they are reached, the parameters and sites of `fn` whose value
    or log-density is not finite.
    """

    def __init__(self, fn: Callable, owner: str, notes: list[tuple[str, str]]) -> None:
        super().__init__(fn)
        self.owner, self.notes = owner, notes

    def postprocess_message(self, msg: dict[str, Any]) -> None:
        if msg["type"] not in ("sample", "param"):  # keys, plates, mutable sites
            return
        name, value, log_prob = msg["name"], msg["value"], jnp.zeros(())
        if msg["type"] == "sample":
            try:
                log_prob = msg["fn"].log_prob(value)
            except Exception:  # a site without a density
                log_prob = jnp.zeros(())
        kind = {"sample": "site", "param": "parameter"}[msg["type"]]
        site, observed = f"{kind} '{name}' of the {self.owner}", msg.get("is_observed", False)

        def note(value: Any, log_prob: Any) -> None:
            bad = _first_bad(value)
            if bad and not (observed and np.isfinite(log_prob).all()):  # it may be masked
                verb = "observes" if observed else "has the value"
                self.notes.append((name, f"{site} {verb} {bad}"))
            elif bad := _first_bad(log_prob):
                self.notes.append((name, f"{site} has log_prob {bad}"))

        jax.debug.callback(note, value, log_prob)


def _first_bad(tree: Any) -> str:
    """The first number in a tree of arrays that is not finite, as text; empty without one."""
    arrays = (np.asarray(leaf).ravel() for leaf in jax.tree.leaves(tree))
    floats = (array for array in arrays if jnp.issubdtype(array.dtype, jnp.inexact))
    bad = (array[~np.isfinite(array.astype(complex))] for array in floats)
    return next((str(numbers[0]) for numbers in bad if numbers.size), "")


# All leaves at once: one by one each shape would be compiled.
@jax.jit
def _finite(leaves: list[Any]) -> list[Array]:
    return [jnp.isfinite(leaf).all() for leaf in leaves]


@jax.jit
def _nan(leaves: list[Any]) -> list[Array]:
    return [jnp.isnan(leaf).any() for leaf in leaves]


def _floats(tree: Any) -> Iterator[tuple[tuple, Any]]:
    """The leaves of a tree that can be something else than finite, with their paths."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact):
            yield path, leaf
