"""Optimizers: `Adam`, and those of the backend's own libraries."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from pyro.optim import PyroOptim
from pyro.optim.lr_scheduler import PyroLRScheduler
from torch import nn

from dgm_core.arguments import check_fraction, check_number, refuse, shown

__all__ = ["Adam"]


@dataclass(frozen=True, repr=False)
class Adam:
    """Adam (Kingma & Ba 2015), the default of `fit`.

    Args:
        learning_rate: the size of a step.
        betas: decays of the two moments.
        eps: added to the root of the second.

    Raises:
        ValueError: if an argument is out of range.

    References:
        arXiv:1412.6980.

    Example:
        >>> Adam(3e-4)
        Adam(0.0003)
    """

    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8

    def __call__(self, params: Any) -> torch.optim.Optimizer:
        params = list(params)
        fused = all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in params)
        return torch.optim.Adam(params, self.learning_rate, self.betas, self.eps, fused=fused)

    def __post_init__(self) -> None:
        check_number("learning_rate", self.learning_rate, above=0)
        check_number("eps", self.eps, above=0)
        if not isinstance(self.betas, tuple | list) or len(self.betas) != 2:
            refuse("betas", "two numbers in [0, 1)", self.betas)
        for beta in self.betas:
            check_fraction("betas", beta)

    def __repr__(self) -> str:
        changed = [
            f"{name}={value!r}"
            for name, value, default in (
                ("betas", self.betas, (0.9, 0.999)),
                ("eps", self.eps, 1e-8),
            )
            if value != default
        ]
        return f"Adam({', '.join([repr(self.learning_rate), *changed])})"


def check_optimizer(optim: Any) -> Any:
    """The optimizer, if it is one that `build_optimizer` can build, as far as that can be told."""
    if not callable(optim) or isinstance(optim, torch.optim.Optimizer):
        _refuse(optim)
    return optim


def _refuse(optim: Any) -> NoReturn:
    raise ValueError(
        "optim must be Adam(...), a callable that makes a torch.optim.Optimizer from parameters, "
        "such as torch.optim.RMSprop or "
        "functools.partial(torch.optim.SGD, lr=0.1), or an optimizer of pyro.optim, got "
        f"{shown(optim)}."
    )


def build_optimizer(optim: Any, params: Mapping[str, nn.Parameter]) -> torch.optim.Optimizer:
    """One torch optimizer over all parameters, from `Adam(...)`, a callable that takes parameters,
    or an optimizer of pyro.optim.
    """
    if isinstance(optim, PyroOptim):
        return _from_pyro(optim, params)
    if callable(optim) and not isinstance(optim, torch.optim.Optimizer):
        built = optim(list(params.values()))
        if isinstance(built, torch.optim.Optimizer):
            return built
    _refuse(optim)


def _from_pyro(optim: PyroOptim, params: Mapping[str, nn.Parameter]) -> torch.optim.Optimizer:
    if isinstance(optim, PyroLRScheduler):
        raise ValueError(
            "optim must be an optimizer, not a scheduler of pyro.optim: pass the schedule as "
            "lr_schedule."
        )
    if optim.pt_clip_args:
        raise ValueError(
            "optim must not clip: pyro.optim clips each parameter by itself, fit clips all "
            "together by clip_norm."
        )
    arguments = optim.pt_optim_args
    if not callable(arguments):
        return optim.pt_optim_constructor(list(params.values()), **arguments)
    return optim.pt_optim_constructor(
        [{"params": [param], **arguments(name)} for name, param in params.items()]
    )
