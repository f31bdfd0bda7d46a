"""The private parts of the libraries that this package uses: no other file of it uses one.

`PRIVATE` names each of them by its owner, and `INHERITED` what subclasses of the libraries' classes
use of themselves; the tests look for all of them in the installed versions. Supported are the
versions in `pyproject.toml`.
"""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from typing import Any

import pyro
import torch
from pyro.distributions import MaskedDistribution
from pyro.infer.autoguide import AutoGuide
from pyro.nn import PyroModule
from pyro.poutine.indep_messenger import CondIndepStackFrame
from pyro.poutine.runtime import Message
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.distributions import Distribution
from torch.fx import config as fx
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import tree_flatten as tree_flatten
from torch.utils._pytree import tree_map as tree_map
from torch.utils._pytree import tree_unflatten as tree_unflatten

__all__: list[str] = []  # for the package, not for users

PRIVATE: dict[str, tuple[str, ...]] = {
    "torch": ("_foreach_copy_", "_foreach_lerp_"),
    "torch.Tensor": ("_version",),
    "torch._C": ("_are_functorch_transforms_active",),
    "torch.autograd.forward_ad": ("_current_level",),
    "torch._C._functorch": ("get_unwrapped", "is_functorch_wrapped_tensor"),
    "torch._inductor.cpu_vec_isa": ("valid_vec_isa_list",),
    "torch.fx.experimental.proxy_tensor.make_fx": ("_allow_non_fake_inputs",),
    "torch.utils._pytree": ("tree_flatten", "tree_map", "tree_unflatten"),
    "torch.nn.Module": ("_parameters", "_buffers", "_modules"),
    "torch.nn.modules.batchnorm": ("_BatchNorm",),
    "torch.distributions.Distribution": ("_validate_args",),
    "pyro.distributions.MaskedDistribution": ("_mask",),
    "pyro.params.param_store.ParamStoreDict": ("_params", "_param_to_name", "_constraints"),
    "pyro.nn.PyroModule": ("_pyro_name", "_pyro_context", "_pyro_samples", "_pyro_params"),
    "pyro.infer.autoguide.AutoGuide": ("_prototype_frames",),
    "the infer of pyro.deterministic": ("_deterministic",),
}
INHERITED: dict[str, tuple[str, ...]] = {
    "torch.distributions.Distribution": (
        "_validate_args",
        "_validate_sample",
        "_extended_shape",
    ),
    "pyro.poutine.messenger.Messenger": (
        "_pyro_sample",
        "_pyro_post_sample",
        "_pyro_param",
        "_pyro_post_param",
    ),
}
# What Pyro notes in a module beside what its constructor was given.
MODULE_NOTES = frozenset({"_pyro_name", "_pyro_context"})


def seed_noise(seed: int) -> None:
    """`torch.manual_seed`, which takes as long as a small step where no accelerator is found: it
    formats the stack for the day that one is.
    """
    if torch.accelerator.is_available():
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


def validates(fn: Any) -> bool:
    """Whether nobody has switched off validation of a distribution."""
    while fn._validate_args is not False and hasattr(fn, "base_dist"):
        fn = fn.base_dist
    return fn._validate_args is not False


@contextmanager
def validation_unset() -> Iterator[None]:
    """A block in which distributions validate nothing, but remember whether that was asked for."""
    set_default, before = Distribution.set_default_validate_args, Distribution._validate_args
    set_default(0)  # type: ignore[arg-type]  # neither True nor False
    try:
        yield
    finally:
        set_default(before)


def mask_of(fn: Any) -> Any:
    """The mask that a distribution lies under; None for any but a MaskedDistribution."""
    return fn._mask if isinstance(fn, MaskedDistribution) else None


def is_computed(msg: Message) -> bool:
    """Whether a site is a `pyro.deterministic`."""
    return bool(msg["infer"].get("_deterministic"))


def plate_frames(guide: AutoGuide) -> dict[str, CondIndepStackFrame]:
    """The plates that an automatic guide remembers, which may be changed in place."""
    return guide._prototype_frames


def stored_parameter(name: str, default: Tensor) -> Tensor:
    """The unconstrained parameter of this name in the store, or the default."""
    return pyro.get_param_store()._params.get(name, default)


def stored_constraint(name: str) -> Any:
    """The constraint of the parameter of this name in the store."""
    return pyro.get_param_store()._constraints[name]


def store_parameter(name: str, unconstrained: Tensor, constraint: Any) -> None:
    """Make the store hold this very tensor."""
    store = pyro.get_param_store()
    if name in store:
        del store[name]
    store._constraints[name] = constraint
    store._params[name] = unconstrained
    store._param_to_name[unconstrained] = name


@contextmanager
def own_store(*, empty: bool) -> Iterator[None]:
    """A parameter store for this block, empty or a copy; the one outside stays as it is."""
    store = vars(pyro.get_param_store())
    kept = dict(store)
    names = ("_params", "_param_to_name", "_constraints")
    store.update({name: type(kept[name])(() if empty else kept[name]) for name in names})
    try:
        yield
    finally:
        store.update(kept)


def tensor_slots(module: nn.Module) -> tuple[dict[str, Any], dict[str, Any]]:
    """Where a module itself keeps its parameters, and its buffers."""
    return module._parameters, module._buffers


def with_parts(module: nn.Module, parts: Mapping[str, nn.Module]) -> Any:
    """A copy of a module with all of its tensors, and some of its parts exchanged."""
    found = copy(module)
    found._modules = {**module._modules, **parts}
    return found


def priors_of(module: PyroModule) -> dict[str, Mapping[str, Any]]:
    """The priors and the constraints of a module's own parameters."""
    return {"samples": module._pyro_samples, "constraints": module._pyro_params}


def module_being_registered() -> nn.Module | None:
    """The argument of the `pyro.module` that this is called from, if it is."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_code is not pyro.module.__code__:
        frame = frame.f_back
    return None if frame is None else frame.f_locals["nn_module"]


def is_batch_norm(module: nn.Module) -> bool:
    """Whether a module normalizes over the batch."""
    return isinstance(module, nn.modules.batchnorm._BatchNorm)


def version_of(value: Tensor) -> int:
    """How often a tensor has been changed in place; -1 where torch does not count."""
    return -1 if value.is_inference() else value._version


def in_torch_func() -> bool:
    """Whether this runs inside vmap, grad or another transform of `torch.func`, which sees neither
    the numbers of a tensor nor gradients that are written by hand; or in forward mode, where these
    would be left out.

    Example:
        >>> in_torch_func()
        False
    """
    return forward_ad._current_level >= 0 or bool(torch._C._are_functorch_transforms_active())


def numbers_of(value: Tensor) -> Tensor:
    """The tensor that a transform of `torch.func` works on: under vmap those of all cases, in some
    order of the dimensions.

    Example:
        >>> numbers_of(torch.ones(2))
        tensor([1., 1.])
    """
    while torch._C._functorch.is_functorch_wrapped_tensor(value):
        value = torch._C._functorch.get_unwrapped(value)
    return value


def with_gradients(operation: Any, gradients: Any, plain: Any) -> None:
    """Give a custom operation, (*tensors, *others) -> (value, *kept), the gradients(slope, inputs,
    kept) of its value; where gradients of these are asked for, or many at once by vmap, those of
    plain(*inputs) -> value.
    """

    def keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.others = tuple(one for one in inputs if not isinstance(one, Tensor))
        ctx.num = len(inputs) - len(ctx.others)
        ctx.save_for_backward(*inputs[: ctx.num], *output)

    def backward(ctx: Any, slope: Tensor, *_: Any) -> tuple[Any, ...]:
        tensors, kept = ctx.saved_tensors[: ctx.num], ctx.saved_tensors[ctx.num :]
        inputs, none = (*tensors, *ctx.others), (None,) * len(ctx.others)
        if not (torch.is_grad_enabled() or in_torch_func()):
            return *gradients(slope, inputs, kept), *none
        graph = torch.is_grad_enabled()
        with torch.enable_grad():  # of aliases, since one input may depend on another
            tensors = tuple(one.view_as(one) for one in tensors)
            value = plain(*tensors, *ctx.others)
        wanted = [one for one in tensors if one.requires_grad]
        found = iter(torch.autograd.grad(value, wanted, slope, create_graph=graph))
        return *(next(found) if one.requires_grad else None for one in tensors), *none

    operation.register_autograd(backward, setup_context=keep)


def as_graph(function: Any) -> Any:
    """What makes a graph of a function, given examples of its arguments; without the lines that
    each operation comes from, which are most of the time.
    """
    make = make_fx(function, tracing_mode="fake", _allow_non_fake_inputs=True)

    def graph(*examples: Any) -> Any:
        before, fx.do_not_emit_stack_traces = fx.do_not_emit_stack_traces, True
        try:
            return make(*examples)
        finally:
            fx.do_not_emit_stack_traces = before

    return graph


def forget_processor() -> None:
    """Let Inductor find out anew which vector instructions the compiler masters."""
    from torch._inductor import cpu_vec_isa  # slow to import

    cpu_vec_isa.valid_vec_isa_list.cache_clear()


def copy_all(targets: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    """Copy all values into their targets at once."""
    torch._foreach_copy_(list(targets), list(values))


def lerp_all(targets: Sequence[Tensor], values: Sequence[Tensor], weight: float) -> None:
    """Move all targets by this part of the way to their values at once."""
    torch._foreach_lerp_(list(targets), list(values), weight)
