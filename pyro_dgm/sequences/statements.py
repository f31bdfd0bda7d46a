"""The sample statements of one step, answered one by one."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from pyro.distributions import Unit
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import Message
from pyro.poutine.util import site_is_subsample
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from dgm_core.steps import Statement, check_new, inside_a_step, keeps_in_a_step, unknown_data
from pyro_dgm.compat import is_computed
from pyro_dgm.conditionals.paths.base import draw
from pyro_dgm.conditionals.quantized import VectorQuantizer

__all__: list[str] = []  # for the package, not for users

MOVING = nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, VectorQuantizer

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


@contextmanager
def nothing_moving() -> Iterator[None]:
    """A block that is one step of a sequence, in which nothing may move with the batch."""

    def refuse(module: nn.Module, args: Any) -> None:
        if (
            module.training
            and isinstance(module, MOVING)
            and getattr(module, "decay", 0) is not None
        ):
            raise keeps_in_a_step(module)

    hook = register_module_forward_pre_hook(refuse)
    try:
        yield
    finally:
        hook.remove()


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
        return draw(fn.expand(torch.broadcast_shapes(fn.batch_shape, batch)))

    with Answered(answer), nothing_moving():
        after = step(state, inputs, x)
    return tuple(found), after
