"""Optimizers: `Adam`, and those of the backend's own libraries."""

from dataclasses import dataclass
from typing import Any, NoReturn

import jax
import optax
from numpyro.optim import Minimize

from dgm_core.arguments import check_fraction, check_number, refuse, shown
from numpyro_dgm.compat import NumPyroOptim

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

    def __call__(self) -> optax.GradientTransformation:
        return optax.adam(self.learning_rate, *self.betas, eps=self.eps)

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
    build_optimizer(optim)
    return optim


def _refuse(optim: Any) -> NoReturn:
    raise ValueError(
        "optim must be Adam(...), an optax.GradientTransformation or a numpyro.optim "
        "optimizer, "
        f"got {shown(optim)}."
    )


def build_optimizer(optim: Any, lr_schedule: Any = None) -> optax.GradientTransformationExtraArgs:
    """`Adam(...)`, an optax or a numpyro.optim optimizer as an optax transformation; ValueError for
    anything else.
    """
    if isinstance(optim, Adam):
        optim = optim()
    if isinstance(optim, optax.GradientTransformation):
        return optax.with_extra_args_support(optim)
    if isinstance(optim, NumPyroOptim) and not isinstance(optim, Minimize):
        if lr_schedule is not None:
            raise ValueError(
                "lr_schedule needs Adam(...) or an optax optimizer; numpyro.optim takes the "
                "schedule as its step_size."
            )
        return _from_numpyro(optim)
    _refuse(optim)


def _from_numpyro(optim: NumPyroOptim) -> optax.GradientTransformationExtraArgs:
    """Its state holds the parameters; the update is the way from ours to those."""

    def update(grads: Any, state: Any, params: Any, *, value: Any, **_: Any) -> tuple[Any, Any]:
        state = optim.update(grads, state, value)
        return jax.tree.map(lambda new, old: new - old, optim.get_params(state), params), state

    return optax.GradientTransformationExtraArgs(optim.init, update)
