"""Steps compiled as a whole, and the plain path where that cannot be done or does not repay."""

import logging
import warnings
from collections.abc import Mapping
from typing import Any

import pyro
import torch
from torch import Tensor, nn

from pyro_dgm.compat import as_graph, forget_processor
from pyro_dgm.nn.states import sharing
from pyro_dgm.training.batches import Batch
from pyro_dgm.training.step import Step

__all__: list[str] = []  # for the package, not for users

_REPAID_AFTER = 5000  # steps: compilation takes 5 to 10 s and saves 1 to 2 ms a step
_OPTIONS = {"fallback_random": True}  # torch's own random numbers, so that both paths draw the same
_FAST_OPTIONS = {
    **_OPTIONS,
    "cpp.vec_isa_ok": True,
}  # without test compilations for every instruction set of the processor, half of the time
_log = logging.getLogger("pyro_dgm")


class _Compiled:
    """Loss, terms and gradients of a step as one compiled function, for batches of the shape of the
    example.

    The step is exported (`torch.export`), differentiated (`torch.func`), and compiled (Inductor)
    into one graph.  Then it is compared with the plain step, in the same random state: value,
    gradients and running statistics.

    Raises:
        any exception of torch where the step cannot be exported or compiled, RuntimeError where the
        two steps differ.

    Cost:
        5 to 15 s, most of it the C++ compiler; later processes find its output in Inductor's cache.
    """

    def __init__(self, step: Step, parameters: Mapping[str, nn.Parameter], example: Batch) -> None:
        self.signature = _signature(example)
        number = torch.tensor(0, device=example.device)
        inputs = (number, example.rows, *example.arrays)
        step.form = example.form
        with (
            pyro.get_param_store().scope()
        ):  # PyroModules must not find their real parameters there
            module = torch.export.export(step, inputs, strict=False).module()
        trained = {id(parameter) for parameter in parameters.values()}
        named = dict(module.named_parameters())
        self.names = [name for name, parameter in named.items() if id(parameter) in trained]
        self.trained = [named[name] for name in self.names]
        if len(self.trained) < len(trained):
            raise RuntimeError("Some parameters are used in ways that torch.export cannot follow.")
        buffers = dict(module.named_buffers())
        self.buffer_names, self.buffers = tuple(buffers), tuple(buffers.values())
        graph = as_graph(_with_gradients(module, self.names, self.buffer_names))
        differentiated = graph(self.trained, list(self.buffers), *inputs)
        try:
            self._use(differentiated, _FAST_OPTIONS, step, example)
        except Exception:  # a compiler older than the processor
            forget_processor()
            self._use(differentiated, _OPTIONS, step, example)

    def _use(self, graph: nn.Module, options: dict[str, Any], step: Step, example: Batch) -> None:
        self.run = torch.compile(graph, fullgraph=True, dynamic=False, options=options)
        _verify(self, step, example)

    def fits(self, batch: Batch) -> bool:
        """Whether a batch has the form, shapes and types of the example."""
        return _signature(batch) == self.signature

    def __call__(self, batch: Batch, number: Tensor) -> Tensor:
        """Sets the gradients; returns the loss and its terms per datum."""
        with torch.no_grad():
            values, gradients, buffers = self.run(
                self.trained, list(self.buffers), number, batch.rows, *batch.arrays
            )
            for parameter, gradient in zip(self.trained, gradients):
                parameter.grad = gradient
            for buffer, new in zip(self.buffers, buffers):
                buffer.copy_(new)
        return values


def plain_step(
    step: torch.nn.Module,
    inner: Step,
    parameters: Mapping[str, nn.Parameter],
    batch: Batch,
    number: Tensor,
) -> Tensor:
    """The same by ordinary automatic differentiation; `step` is `inner`, or what averages its
    gradients over processes.
    """
    for parameter in parameters.values():
        parameter.grad = None
    inner.take_form(batch)
    with sharing(None if step is inner else batch.share):
        loss, values = step(number, batch.rows, *batch.arrays)
    (loss if batch.share == 1.0 else loss * batch.share).backward()
    return values


def compiled_step(
    choice: bool | str,
    num_steps: int | None,
    step: Step,
    parameters: Mapping[str, nn.Parameter],
    example: Batch,
) -> _Compiled | None:
    """The compiled step; None where the plain one is to be used.  "auto" compiles when at least
    5000 full-size steps are planned.

    The decision never depends on a clock, so that a resumed run makes the same one.
    """
    if choice is False or (choice == "auto" and (num_steps or 0) < _REPAID_AFTER):
        return None
    try:
        if step.loss.stateful:
            raise ValueError(
                "critics and other terms with state take updates of their own within it"
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _Compiled(step, parameters, example)
    except Exception as error:  # whatever torch cannot do
        reason = (
            f"The step is not compiled ({type(error).__name__}: "
            f"{(str(error).strip() or 'no reason given').splitlines()[0]})."
        )
        if choice is True:
            warnings.warn(f"{reason} Training goes on without.", UserWarning, stacklevel=2)
        _log.info(reason)
        return None


def _with_gradients(module: nn.Module, names: list[str], buffer_names: tuple[str, ...]) -> Any:
    def function(
        trained: list[Tensor], buffers: list[Tensor], *inputs: Tensor
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        states = [buffer.clone() for buffer in buffers]  # the ones that the module may write to
        leaves = [parameter.detach().requires_grad_() for parameter in trained]
        tensors = {**dict(zip(names, leaves)), **dict(zip(buffer_names, states))}
        with torch.enable_grad():
            value, values = torch.func.functional_call(module, tensors, inputs)
            gradients = torch.autograd.grad(value, leaves, materialize_grads=True)
        return values.detach(), list(gradients), states

    return function


def _verify(compiled: _Compiled, step: Step, example: Batch) -> None:
    number = torch.tensor(0, device=example.device)
    parameters = dict(zip(compiled.names, compiled.trained))
    before = [buffer.clone() for buffer in compiled.buffers]
    results = []
    for run in (
        lambda: plain_step(step, step, parameters, example, number),
        lambda: compiled(example, number),
    ):
        with torch.random.fork_rng():
            values = run()
        gradients = [parameter.grad for parameter in compiled.trained]
        results.append([values, *gradients, *(buffer.clone() for buffer in compiled.buffers)])
        for buffer, old in zip(compiled.buffers, before):
            buffer.copy_(old)
    for parameter in compiled.trained:
        parameter.grad = None
    for name, plain, fast in zip(("values", *compiled.names, *compiled.buffer_names), *results):
        plain = torch.zeros_like(fast) if plain is None else plain
        tolerance = 1e4 * torch.finfo(fast.dtype).eps if fast.is_floating_point() else 0.0
        if (
            not (fast - plain).double().norm()
            <= tolerance * plain.double().norm() + tolerance * 1e-3
        ):
            raise RuntimeError(f"The compiled step differs from the plain one in {name}.")


def _signature(batch: Batch) -> tuple:
    arrays = [
        array if array is None else (array.shape, array.dtype)
        for array in (batch.rows, *batch.arrays)
    ]
    return (batch.form, *arrays)
