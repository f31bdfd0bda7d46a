"""One face for both libraries, so that a test of a loss is written once and runs in each.

`backend.sample`, `.plate`, `.param`, `.dist` and `.np` have equal names and meanings in Pyro and
NumPyro; `evaluate` returns the loss, its terms and the gradient with respect to every
(unconstrained) parameter as numpy arrays.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np


class PyroBackend:
    """Pyro on torch, in float64."""

    name = "pyro"

    def __init__(self) -> None:
        import pyro
        import pyro.distributions as dist
        import torch

        from pyro_dgm import conditionals, evaluation, guides, joints, losses

        self.pyro, self.torch, self.dist, self.np, self.losses, self.evaluation = (
            pyro,
            torch,
            dist,
            torch,
            losses,
            evaluation,
        )
        self.sample, self.param, self.deterministic = pyro.sample, pyro.param, pyro.deterministic
        self.factor, self.joints = pyro.factor, joints
        self.guides, self.conditionals = guides, conditionals

    def plate(
        self, name: str, size: int, subsample_size: int | None = None, dim: int | None = None
    ) -> Any:
        return self.pyro.plate(name, size, subsample_size=subsample_size, dim=dim)

    def run(self, model: Callable, guide: Callable, params: dict | None = None) -> SimpleNamespace:
        """A trained run: model and guide with these parameters."""
        self.pyro.clear_param_store()
        for name, value in (params or {}).items():
            self.pyro.get_param_store().setdefault(name, self.array(value))
        return SimpleNamespace(model=model, guide=guide)

    @contextmanager
    def double_precision(self) -> Iterator[None]:
        before = self.torch.get_default_dtype()
        self.torch.set_default_dtype(self.torch.float64)
        yield
        self.torch.set_default_dtype(before)

    def scale(self, factor: float) -> Any:
        return self.pyro.poutine.scale(scale=factor)

    def mask(self, mask: Any) -> Any:
        return self.pyro.poutine.mask(mask=mask)

    def array(self, x: Any) -> Any:
        return self.torch.as_tensor(np.asarray(x), dtype=self.torch.float64)

    def evaluate(
        self,
        loss: Any,
        model: Callable,
        guide: Callable,
        *args: Any,
        params: dict | None = None,
        seed: int = 0,
        step: int = 0,
        **kwargs: Any,
    ) -> tuple[float, dict[str, float], dict[str, np.ndarray]]:
        pyro, torch = self.pyro, self.torch
        pyro.clear_param_store()
        store = pyro.get_param_store()
        for name, value in (params or {}).items():
            store.setdefault(name, self.array(value).clone())
        args = tuple(self.array(a) if isinstance(a, np.ndarray) else a for a in args)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            out = loss.evaluate(model, guide, args, kwargs, step=step)
        gradients = {
            name: np.zeros_like(np.asarray(value, dtype=float))
            for name, value in (params or {}).items()
        }
        if gradients and out.loss.requires_grad:
            leaves = [store._params[name] for name in gradients]
            found = torch.autograd.grad(out.loss, leaves, allow_unused=True)
            gradients = {
                name: old if new is None else new.numpy()
                for (name, old), new in zip(gradients.items(), found, strict=True)
            }
        return out.loss.item(), {name: value.item() for name, value in out.terms.items()}, gradients


class NumPyroBackend:
    """NumPyro on jax, in float64; evaluations are jitted once per loss, model and guide."""

    name = "numpyro"

    def __init__(self) -> None:
        import jax
        import jax.numpy as jnp
        import numpyro
        import numpyro.distributions as dist

        from numpyro_dgm import conditionals, evaluation, guides, joints, losses

        self.numpyro, self.jax, self.dist, self.np, self.losses, self.evaluation = (
            numpyro,
            jax,
            dist,
            jnp,
            losses,
            evaluation,
        )
        self.sample, self.param, self.plate, self.deterministic = (
            numpyro.sample,
            numpyro.param,
            numpyro.plate,
            numpyro.deterministic,
        )
        self.factor, self.joints = numpyro.factor, joints
        self.guides, self.conditionals = guides, conditionals
        self._compiled: dict = {}

    def run(self, model: Callable, guide: Callable, params: dict | None = None) -> SimpleNamespace:
        """A trained run: model and guide with these parameters."""
        return SimpleNamespace(
            model=model,
            guide=guide,
            params={name: self.array(value) for name, value in (params or {}).items()},
        )

    def parameters(self, program: Callable, *args: Any) -> dict[str, Any]:
        """What the parameter sites of a program hold, by name."""

        def run(*args: Any) -> dict[str, Any]:
            trace = self.numpyro.handlers.trace(self.numpyro.handlers.seed(program, 0))
            sites = trace.get_trace(*args).items()
            return {name: site["value"] for name, site in sites if site["type"] == "param"}

        return self.jax.jit(run)(*args)

    def double_precision(self) -> AbstractContextManager[None]:
        return self.jax.enable_x64(True)

    def scale(self, factor: float) -> Any:
        return self.numpyro.handlers.scale(scale=factor)

    def mask(self, mask: Any) -> Any:
        return self.numpyro.handlers.mask(mask=mask)

    def array(self, x: Any) -> Any:
        return self.np.asarray(x, dtype=self.np.float64)

    def evaluate(
        self,
        loss: Any,
        model: Callable,
        guide: Callable,
        *args: Any,
        params: dict | None = None,
        seed: int = 0,
        step: int = 0,
        **kwargs: Any,
    ) -> tuple[float, dict[str, float], dict[str, np.ndarray]]:
        jax = self.jax
        with jax.enable_x64(True):
            values = {name: self.array(value) for name, value in (params or {}).items()}
            args = tuple(self.array(a) if isinstance(a, np.ndarray) else a for a in args)

            def total(values: dict, rng_key: Any, args: tuple) -> Any:
                out = loss.evaluate(rng_key, values, model, guide, args, kwargs, step=step)
                return out.loss, out.terms

            key = (loss, model, guide, step, tuple(kwargs.items()))
            run = self._compiled.setdefault(key, jax.jit(jax.value_and_grad(total, has_aux=True)))
            (value, terms), gradients = run(values, jax.random.key(seed), args)
            return (
                float(value),
                {k: float(v) for k, v in terms.items()},
                {k: np.asarray(v) for k, v in gradients.items()},
            )
