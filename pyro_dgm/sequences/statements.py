"""The sample statements of one step, answered one by one."""

from collections.abc import Callable
from typing import Any

import torch
from pyro.distributions import Unit
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import Message
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from dgm_core.steps import Statement, check_new, inside_a_step, unknown_data
from pyro_dgm.compat import is_computed

__all__: list[str] = []  # for the package, not for users

Answer = Callable[[str, Any, Any, dict[str, Any]], Any]


class Answered(Messenger):
    """Values for the statements of a step, by a function of name, distribution, data (None for a
    latent one) and `infer`; no handler further out sees them.

    Raises:
        ValueError: for any other statement, and for a name that comes twice.
    """

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.answer = answer
        self.names: list[str] = []

    def _pyro_sample(self, msg: Message) -> None:
        name, fn = msg["name"], msg["fn"]
        if site_is_subsample(msg) or msg["cond_indep_stack"]:
            raise inside_a_step("a plate")
        if is_computed(msg) or isinstance(fn, Unit):
            raise inside_a_step("a deterministic site or a factor")
        if isinstance(msg["scale"], Tensor) or msg["scale"] != 1:
            raise inside_a_step("a scale")
        if msg["mask"] is not None:
            fn = fn.mask(msg["mask"])
        check_new(name, self.names)
        self.names.append(name)
        data = msg["value"] if msg["is_observed"] else None
        msg["value"] = self.answer(name, fn, data, msg["infer"])
        msg["done"] = msg["stop"] = True

    def _pyro_param(self, msg: Message) -> None:
        raise inside_a_step(f"the parameter '{msg['name']}'")


def statements_of(
    step: Callable, state: Any, inputs: Any, x: Any, leaves: list[Any], batch: Any
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
        return fn.expand(torch.broadcast_shapes(fn.batch_shape, batch)).sample()

    with Answered(answer):
        after = step(state, inputs, x)
    return tuple(found), after
