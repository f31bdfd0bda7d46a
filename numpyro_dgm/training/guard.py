"""What to do when a number is not finite: find the site where it began, and keep the last good
weights.
"""

import copy
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpyro.distributions.distribution import validation_enabled
from numpyro.primitives import Messenger

from numpyro_dgm.training.batches import Form
from numpyro_dgm.training.step import State, Step

__all__: list[str] = []  # for the package, not for users


def last_good(epochs: Any, state: State, start: int, stop: int) -> tuple[State, int]:
    """The state before the first step that spoils it, and that step, by running start, ..., stop -
    1 again in halves.

    Cost: about log2(stop - start) times those steps.
    """
    good, bad = (
        start,
        stop,
    )  # after the steps before `good` all is finite, after those before `bad` it is not
    while bad - good > 1:
        middle = (good + bad) // 2
        if epochs.run(state, start, middle)[2]:
            good = middle
        else:
            bad = middle
    return epochs.run(state, start, good)[0], good


def explain_nonfinite(
    step: Step, state: State, form: Form, arrays: tuple, rows: Array | None, key: Array
) -> tuple[str | None, str, str]:
    """The first site that is not finite in a step from a good state, what is not finite, and why,
    by running that step once more, uncompiled.
    """
    batch, key = step.prepare(form.build(arrays), key)
    notes: list[tuple[str, str]] = []
    watched = copy.copy(step)
    watched.model, watched.guide = (
        _Watch(step.model, "model", notes),
        _Watch(step.guide, "guide", notes),
    )
    with (
        warnings.catch_warnings(),
        validation_enabled(False),
    ):  # numpyro would complain about the same numbers, and raise
        warnings.simplefilter("ignore")
        loss, (values, _) = watched.evaluate(
            state.params, state.mutable, batch, rows, key, state.step
        )
        jax.effects_barrier()
        if not notes and np.isfinite(loss):
            grads = jax.grad(
                lambda params: step.evaluate(params, state.mutable, batch, rows, key, state.step)[0]
            )(state.params)
            notes = [
                (name, f"the gradient with respect to parameter '{name}' is not finite")
                for name, grad in grads.items()
                if _first_bad(grad)
            ]
    named = zip((*step.loss.term_names, "The loss"), (*values[1:], loss), strict=True)
    subject = next(
        (f"{name} is {value}" for name, value in named if not np.isfinite(value)),
        "The update is not finite",
    )
    return (
        (*notes[0][:1], subject, notes[0][1]) if notes else (None, subject, "every site is finite")
    )


class _Watch(Messenger):
    """Notes, in the order in which they are reached, the parameters and sites of `fn` whose value
    or log-density is not finite.
    """

    def __init__(self, fn: Callable, owner: str, notes: list[tuple[str, str]]) -> None:
        super().__init__(fn)
        self.owner, self.notes = owner, notes

    def postprocess_message(self, msg: dict[str, Any]) -> None:
        name, value, log_prob = msg["name"], msg["value"], jnp.zeros(())
        if msg["type"] == "sample":
            try:
                log_prob = msg["fn"].log_prob(value)
            except Exception:  # a site without a density
                log_prob = jnp.zeros(())
        elif msg["type"] != "param":
            return
        kind = {"sample": "site", "param": "parameter"}[msg["type"]]
        observed = msg.get("is_observed", False)

        def note(value: Any, log_prob: Any) -> None:
            bad = _first_bad(value)
            if bad and not (
                observed and np.isfinite(log_prob).all()
            ):  # an observation may be masked
                self.notes.append(
                    (
                        name,
                        (
                            f"{kind} '{name}' of the {self.owner} "
                            f"{'observes' if observed else 'has the value'} {bad}"
                        ),
                    )
                )
            elif bad := _first_bad(log_prob):
                self.notes.append((name, f"{kind} '{name}' of the {self.owner} has log_prob {bad}"))

        jax.debug.callback(note, value, log_prob)


def _first_bad(tree: Any) -> str:
    """The first number in a tree of arrays that is not finite, as text; empty where
    there is none.
    """
    arrays = (np.asarray(leaf).ravel() for leaf in jax.tree.leaves(tree))
    return next(
        (str(array[~np.isfinite(array)][0]) for array in arrays if not np.isfinite(array).all()), ""
    )
