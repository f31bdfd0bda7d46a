"""One training step: the loss of a batch as a function of the parameters."""

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pyro
import torch
from pyro.infer.autoguide import AutoGuide
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import Message
from torch import Tensor, nn
from torch.distributions import transform_to

from dgm_core.guides import extended
from dgm_core.training.batches import Form
from pyro_dgm.compat import store_parameter, stored_constraint
from pyro_dgm.losses import Loss
from pyro_dgm.nn import evaluation_mode
from pyro_dgm.nn.register import settled
from pyro_dgm.training.batches import Batch
from pyro_dgm.training.rows import Rows

__all__: list[str] = []  # for the package, not for users


class Parameters(Messenger):
    """All learnable parameters that a model and a guide meet in one run, and the handler that hands
    them out afterwards.

    Parameters of modules (`pyro.module`, `register`, PyroModules, automatic guides) stay the
    modules' own.  A free `pyro.param` lives on as an unconstrained torch Parameter, from the
    initial value that it states; one that states none, from the parameter store.

    Attributes:
        sites: name -> unconstrained Parameter.
        free: those of `pyro.param` alone.
        modules: all networks that the callables use, without those inside others.
        wants_rows: whether a plate holds a subsample of the data.
        restarted: those of which the parameter store held another value.
    """

    def __init__(self, modules: list[nn.Module], device: torch.device) -> None:
        super().__init__()
        self.modules, self.device = modules, device
        self.sites: dict[str, nn.Parameter] = {}
        self.free = nn.ParameterList()
        self._index: dict[str, int] = {}
        self._constraints: dict[str, Any] = {}
        self._before = {
            name: (value.detach(), stored_constraint(name))
            for name, value in pyro.get_param_store().named_parameters()
        }
        self.complete = False
        self.wants_rows = False
        self.restarted: list[str] = []

    @contextmanager
    def discovery(self) -> Iterator[None]:
        """Runs of the step inside this block say which parameters there are."""
        yield
        self.complete = True

    @property
    def distinct(self) -> dict[str, nn.Parameter]:
        """`sites` without the second names of shared parameters."""
        first: dict[int, str] = {}
        for name, parameter in self.sites.items():
            first.setdefault(id(parameter), name)
        return {name: self.sites[name] for name in first.values()}

    @property
    def buffers(self) -> dict[str, Tensor]:
        """The state of the modules beside their parameters: running statistics."""
        return dict(nn.ModuleList(self.modules).named_buffers())

    def constrained(self) -> dict[str, Tensor]:
        """Copies of all parameters as the model and the guide see them."""
        with torch.no_grad():
            return {
                name: transform_to(self._constraints[name])(value).detach().clone()
                for name, value in self.sites.items()
            }

    @contextmanager
    def installed(self) -> Iterator[None]:
        """A block with a parameter store of its own, in which these very tensors are; afterwards
        they are in the store outside as well.
        """
        try:
            with pyro.get_param_store().scope():
                self._into_store()
                yield
        finally:
            self._into_store()

    def _into_store(self) -> None:
        for name, parameter in self.sites.items():
            store_parameter(name, parameter, self._constraints[name])

    def _pyro_param(self, msg: Message) -> None:
        if msg["done"]:
            return
        name, initial = msg["name"], msg["args"][1] if len(msg["args"]) > 1 else None
        if name in self._index:
            msg["value"] = self._value(name)
        elif isinstance(initial, nn.Parameter) or (
            self.complete and isinstance(initial, Tensor) and name in self.sites
        ):
            msg["value"] = initial  # a module's own
        elif not self.complete and (
            initial is not None or (name in self._before and name not in pyro.get_param_store())
        ):
            msg["value"] = self._adopt(name, initial, msg["kwargs"]["constraint"])
        msg["done"] = msg["value"] is not None

    def _pyro_post_param(self, msg: Message) -> None:
        name, value = msg["name"], msg["value"]
        if self.complete or name in self.sites:
            return
        parameter = value if isinstance(value, nn.Parameter) else value.unconstrained()
        if parameter.requires_grad:
            self.sites[name] = parameter
            self._constraints[name] = (
                msg["kwargs"].get("constraint") or torch.distributions.constraints.real
            )
            if name in pyro.get_param_store():  # of a PyroModule, which says its constraint there
                self._constraints[name] = stored_constraint(name)

    def _adopt(self, name: str, initial: Any, constraint: Any) -> Tensor:
        with torch.no_grad():
            if initial is None:
                start = self._before[name][0]
            else:
                initial = initial() if callable(initial) else initial.detach()
                start = transform_to(constraint).inv(initial).contiguous()
                held = self._before[name][0] if name in self._before else start
                if held.shape != start.shape or not torch.equal(held.to(start), start):
                    self.restarted.append(name)
        parameter = nn.Parameter(start.to(self.device, copy=True))
        self._index[name] = len(self.free)
        self.free.append(parameter)
        self.sites[name], self._constraints[name] = parameter, constraint
        return self._value(name)

    def _value(self, name: str) -> Tensor:
        parameter = self.free[self._index[name]]
        value = transform_to(self._constraints[name])(parameter)
        value.unconstrained = weakref.ref(parameter)  # as the parameter store does it
        return value


class Step(nn.Module):
    """The loss of a batch: `step(number, rows, *arrays)` -> loss per datum, and the loss and its
    terms per datum without gradient, (1 + num_terms,).

    A module, with the networks as its submodules, so that it can be exported as a whole.
    """

    def __init__(
        self,
        model: Callable,
        guide: Callable,
        loss: Loss,
        parameters: Parameters,
        num_data: int | None = None,
    ) -> None:
        super().__init__()
        self.model, self.guide, self.loss = (
            _callable(extended(model, guide)),
            _callable(guide),
            loss,
        )
        self.networks = nn.ModuleList(parameters.modules)
        self.free = parameters.free
        self.parameters_handler = parameters
        self.num_data = num_data
        self.states: dict[str, Any] = {}  # what the terms keep
        self.update = False
        self.form = Form("array")
        self.guides = [
            part
            for module in parameters.modules
            for part in module.modules()
            if isinstance(part, AutoGuide)
        ]

    def forward(
        self, number: Tensor, rows: Tensor | None, *arrays: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        args, kwargs = self.form.call(arrays)
        with self.handlers(rows):
            out = self.loss.evaluate(
                self.model,
                self.guide,
                args,
                kwargs,
                step=number,
                states=self.states,
                update=self.update,
            )
        if out.states:
            self.states = out.states
        loss = out.per_datum
        return loss, torch.stack([loss.detach(), *out.terms.values()])

    @contextmanager
    def handlers(self, rows: Tensor | None) -> Iterator[None]:
        """What model and guide run under: parameters and rows are handed out."""
        token = settled.set(self.parameters_handler.complete)
        try:
            seeking = rows is not None and (
                self.parameters_handler.wants_rows or not self.parameters_handler.complete
            )
            with (
                self.parameters_handler,
                Rows(rows, self.num_data, self.guides) if seeking else nullcontext() as handed,
            ):
                yield
            self.parameters_handler.wants_rows |= bool(handed and handed.taken)
        finally:
            settled.reset(token)

    def take_form(self, batch: Batch) -> None:
        """The arrays that come belong to a batch of this form."""
        if self.form is not batch.form:  # an attribute of a module costs to set
            self.form = batch.form

    def on(self, batch: Batch, number: Tensor) -> tuple[Tensor, Tensor]:
        """The step on a batch."""
        self.take_form(batch)
        return self(number, batch.rows, *batch.arrays)


def _callable(function: Callable) -> Callable:
    """Kept out of the submodules, where they would appear twice."""
    return function.__call__ if isinstance(function, nn.Module) else function


def discover(
    model: Callable,
    guide: Callable,
    networks: list[nn.Module],
    loss: Loss,
    batch: Batch,
    num_data: int | None,
) -> tuple[Parameters, dict[str, Any]]:
    """The parameters that model and guide meet on a batch, whatever the store holds under the names
    of modules, and the first states of the terms.

    Runs the guide once before: automatic guides make their parameters on the first run.
    """
    parameters = Parameters(networks, batch.device)
    step = Step(model, guide, loss, parameters, num_data)
    args, kwargs = batch.form.call(batch.arrays)
    store = pyro.get_param_store()
    with torch.no_grad(), evaluation_mode(model, guide):
        with store.scope(), Rows(batch.rows, num_data, []):
            guide(*args, **kwargs)
        with store.scope(), parameters.discovery():
            step.on(batch, torch.tensor(0))
    return parameters, step.states
