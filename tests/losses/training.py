"""Training of terms with a critic in both libraries, for tests of what is learned."""

import importlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np


def build(backend: Any, cls: Any, *sizes: Any, seed: int = 0, **settings: Any) -> Any:
    """A network, drawn from a seed."""
    if backend.name == "pyro":
        backend.torch.manual_seed(seed)
        return cls(*sizes, **settings)
    return cls(*sizes, **settings, key=backend.jax.random.key(seed))


def package(backend: Any) -> Any:
    return importlib.import_module(f"{backend.name}_dgm")


def fit(backend: Any, model: Callable, guide: Callable | None, data: Any, **settings: Any) -> Any:
    """`fit` without a progress line, and without compiling in Pyro, which takes longer than these
    runs.
    """
    if backend.name == "pyro":
        backend.pyro.clear_param_store()
        settings["compile"] = False
    return package(backend).fit(model, guide, data, progress=False, **settings)


def parameter(run: Any, name: str) -> np.ndarray:
    value = run.params[name]
    return value.detach().numpy() if hasattr(value, "detach") else np.asarray(value)


def trained_critic(backend: Any, term: Any, run: Any) -> Callable[[Any], Any]:
    """The critic as the run left it, from and to arrays of the library."""
    (critic,) = term.critics(run.term_state).values()
    return critic


def fixed_joints(real: Any, fake: Any, **others: Any) -> Any:
    """What a term reads of the joints, with samples that are given."""
    joints = SimpleNamespace(samples=lambda sites: (real, fake), outputs={}, **others)
    key = {} if hasattr(real, "detach") else {"key": None}
    joints.state = lambda term: term.init_state(joints, **key)
    return joints
