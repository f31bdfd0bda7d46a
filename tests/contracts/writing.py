"""Losses as the registry writes them, and the numbers that their terms draw by themselves."""

import re
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from inspect import isclass
from typing import Any

import jax
import numpy as np
import pytest
import torch

from dgm_core import schedules
from tests.bad_inputs.base import signature
from tests.cases import PROGRAMS, Loss
from tests.losses.training import build, package


def public(backend: Any, *packages: str) -> dict[str, Any]:
    """The public names of packages, with a key where one is asked for."""
    names: dict[str, Any] = {}
    for name in packages:
        module = getattr(package(backend), name)
        names |= {public: getattr(module, public) for public in module.__all__}
    if backend.name == "pyro":
        return names
    takes = lambda made: isclass(made) and "key" in signature(made)  # noqa: E731
    key = jax.random.key(0)
    return {name: partial(made, key=key) if takes(made) else made for name, made in names.items()}


def made(backend: Any, case: Loss, expression: str | None = None) -> Any:
    """The loss that an expression writes."""
    programs = PROGRAMS[case.programs]

    def critic(dim: int) -> Any:
        return build(backend, backend.losses.Critic, dim, hidden=(4,), activation="tanh")

    names = {
        **public(backend, "losses", "conditionals", "nn"),
        **{name: getattr(schedules, name) for name in ("linear", "constant", "cyclical")},
        "critic": critic,
        "model": programs.make(backend)[0],
        "x": backend.array(programs.data),
    }
    if backend.name == "pyro":
        torch.manual_seed(0)
    return eval(expression or case.written, names)


def without_critics(written: str) -> str:
    """An expression as `repr` shows it."""
    return re.sub(r", critic\(\d+\)|critic\(\d+\), |critic\(\d+\)", "", written)


# Numbers that terms and generators draw by themselves

DRAWING = r"(num)?pyro_dgm\.(losses\.|conditionals\.implicit)"


class Stand:
    """A module in which some names stand for others."""

    def __init__(self, module: Any, **names: Any) -> None:
        self.__dict__.update(names, _module=module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def table(kind: str, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers for a shape, the same at every call."""
    rng = np.random.default_rng(zlib.crc32(f"{kind}{shape}".encode()))
    return rng.standard_normal(shape) if kind == "normal" else rng.uniform(size=shape)


def torch_numbers(kind: str, *shape: Any, **_: Any) -> torch.Tensor:
    shape = shape[0] if isinstance(shape[0], tuple) else shape
    return torch.as_tensor(table(kind, tuple(map(int, shape))))


@contextmanager
def given_numbers() -> Iterator[None]:
    """What terms and generators of both libraries draw by themselves comes from one table."""
    in_jax = {
        kind: lambda key, shape, dtype=float, kind=kind: jax.numpy.asarray(table(kind, shape))
        for kind in ("normal", "uniform")
    }
    stands = {
        "torch": Stand(
            torch,
            randn=partial(torch_numbers, "normal"),
            rand=partial(torch_numbers, "uniform"),
            randn_like=lambda x: torch_numbers("normal", tuple(x.shape)),
        ),
        "jax": Stand(jax, random=Stand(jax.random, **in_jax)),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, module in list(sys.modules.items()):
            for library, stand in stands.items():
                if re.match(DRAWING, name) and hasattr(module, library):
                    patch.setattr(module, library, stand)
        yield
