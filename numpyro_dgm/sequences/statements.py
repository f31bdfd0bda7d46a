"""The sample statements of one step, answered one by one."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from numpyro.distributions import Unit
from numpyro.primitives import Messenger

from dgm_core.steps import Statement, check_new, inside_a_step, unknown_data
from numpyro_dgm.nn.states import stepping

__all__: list[str] = []  # for the package, not for users

Answer = Callable[[str, Any, Any, dict[str, Any]], Any]
OTHER = {
    "plate": "a plate",
    "subsample": "a plate",
    "deterministic": "a deterministic site or a factor",
    "control_flow": "a scan or a condition",
}


class Answered(Messenger):
    """Values for the statements of a step, by a function of name, distribution, data (None for a
    latent one) and `infer`; no handler further out sees them. Networks get keys made of `key`.

    Raises:
        ValueError: for any other statement, and for a name that comes twice.
    """

    def __init__(self, answer: Answer, key: Array) -> None:
        super().__init__()
        self.answer, self.key = answer, key
        self.names: list[str] = []
        self._asked = 0

    def process_message(self, msg: dict[str, Any]) -> None:
        if msg["type"] == "prng_key":
            self._asked += 1
            msg["value"] = jax.random.fold_in(self.key, 2**30 + self._asked)
        elif msg["type"] == "sample":
            self._answer(msg)
        else:
            state = f"the {'parameter' if msg['type'] == 'param' else 'state'} '{msg.get('name')}'"
            raise inside_a_step(OTHER.get(msg["type"], state))
        msg["stop"] = True

    def _answer(self, msg: dict[str, Any]) -> None:
        name, fn = msg["name"], msg["fn"]
        if msg["cond_indep_stack"]:
            raise inside_a_step("a plate")
        if isinstance(fn, Unit):
            raise inside_a_step("a deterministic site or a factor")
        if msg["scale"] is not None:
            raise inside_a_step("a scale")
        check_new(name, self.names)
        self.names.append(name)
        data = msg["value"] if msg["is_observed"] else None
        msg["value"] = self.answer(name, fn, data, msg["infer"])


def statements_of(
    step: Callable, state: Any, inputs: Any, x: Any, leaves: list[Any], batch: Any, key: Array
) -> tuple:
    """The statements of a step, and the state that it returns; `leaves` are the arrays of x, the
    values of others are drawn for all of a batch.
    """
    found: list[Statement] = []

    def answer(name: str, fn: Any, data: Any, infer: dict[str, Any]) -> Any:
        number = None
        if data is not None:
            number = next((i for i, leaf in enumerate(leaves) if leaf is data), None)
            if number is None:
                raise unknown_data(name)
        shapes = tuple(fn.batch_shape), tuple(fn.event_shape)
        found.append(Statement(name, *shapes, fn.support, fn.has_rsample, number, dict(infer)))
        if data is not None:
            return data
        wide = fn.expand(jnp.broadcast_shapes(fn.batch_shape, batch))
        return wide.sample(jax.random.fold_in(key, len(found)))

    with Answered(answer, key), stepping():
        after = step(state, inputs, x)
    return tuple(found), after
