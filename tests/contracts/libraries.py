"""One face for both libraries, so that a contract is written once and runs in each."""

import inspect
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tests.kinds import GIVEN, Autoregressive, Flow, Model, Network
from tests.kinds import Path as PathCase

# Compiling takes far longer than running what is tested here.
QUICKLY: dict[str, Any] = {
    "compiler_options": {
        "xla_backend_optimization_level": 0,
        "xla_llvm_disable_expensive_passes": True,
    }
}


class Library:
    """What both libraries share."""

    package: Any

    def build(self, module: str, name: str, *sizes: Any, seed: int = 0, **settings: Any) -> Any:
        raise TypeError("A library builds modules.")

    def conditional(self, case: Any, context_shape: Any, small: bool = False, seed: int = 0) -> Any:
        sizes = case.small if small else case.sizes
        if isinstance(case, Flow):
            return self.flow(case, sizes[0], context_shape, seed)
        if isinstance(case, PathCase) and case.parts:
            parts = case.parts(partial(self.build, seed=seed), context_shape)
            return self.build(case.module, case.name, *parts, seed=seed)
        if isinstance(case, Autoregressive):
            sizes = (*sizes, case.made_of(self.package.conditionals))
        return self.build(
            case.module, case.name, *sizes, seed=seed, context_shape=context_shape, **case.settings
        )

    def flow(self, case: Flow, dim: Any, context_shape: int, seed: int) -> Any:
        settings = {**case.settings, "context_shape": context_shape}
        if case.base:
            settings["base"] = self.build("conditionals", case.base, dim)
        sizes = (dim,)
        if case.transforms:
            transforms = [
                self.build(
                    "flows",
                    name,
                    *[
                        self.scalar(*value)
                        if isinstance(value, tuple) and isinstance(value[0], str)
                        else value
                        for value in arguments
                    ],
                    seed=seed + index,
                    **{
                        key: context_shape if value is GIVEN else value
                        for key, value in options.items()
                    },
                )
                for index, (name, arguments, options) in enumerate(case.transforms(dim))
            ]
            sizes = (dim, transforms)
        return self.build(case.module, case.name, *sizes, seed=seed, **settings)

    def scalar(self, name: str, *arguments: Any) -> Any:
        return getattr(self.package.flows, name)(*arguments)

    def gradients(
        self, function: Callable[..., Any], module: Any, *arrays: Any
    ) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
        """Gradients of sum(function(module, *arrays)) with respect to the parameters, by path, and
        to the arrays.
        """
        return self.values_and_gradients(function, module, *arrays)[1:]

    def values_and_gradients(
        self, function: Callable[..., Any], module: Any, *arrays: Any
    ) -> tuple[Any, dict[str, np.ndarray], list[np.ndarray]]:
        """function(module, *arrays), and the gradients of its sum with respect to the parameters,
        by path, and to the arrays. Of a list of arrays, the first is differentiated.
        """
        raise TypeError("A library differentiates.")

    def network(self, case: Network, seed: int = 0) -> Any:
        return self.build("nn", case.name, *case.sizes, seed=seed, **case.settings)

    def evaluate_network(self, network: Any, x: Any) -> Any:
        with self.package.nn.evaluation_mode(network):
            return network(x)

    def model(self, case: Model, seed: int = 0) -> Any:
        parts = {
            role: self.build(*part[:2], *part[2], seed=seed, **part[3])
            for role, part in case.parts.items()
        }
        return self.build("models", case.name, *case.sizes, seed=seed, **case.settings, **parts)


class PyroLibrary(Library):
    """Pyro on torch."""

    def __init__(self) -> None:
        import pyro
        import torch

        import pyro_dgm

        self.pyro, self.torch, self.package, self.dist = pyro, torch, pyro_dgm, pyro.distributions
        self.sample, self.plate, self.exp, self.stack = (
            pyro.sample,
            pyro.plate,
            torch.exp,
            torch.stack,
        )

    def build(self, module: str, name: str, *sizes: Any, seed: int = 0, **settings: Any) -> Any:
        self.torch.manual_seed(seed)
        return getattr(getattr(self.package, module), name)(*sizes, **settings)

    def array(self, x: Any) -> Any:
        x = np.asarray(x)
        return self.torch.as_tensor(
            x, dtype=self.torch.get_default_dtype() if x.dtype.kind == "f" else None
        )

    def numpy(self, x: Any) -> np.ndarray:
        return x.numpy(force=True)

    def draw(self, distribution: Any, shape: tuple[int, ...] = (), seed: int = 0) -> Any:
        self.torch.manual_seed(seed)
        return (distribution.rsample if distribution.has_rsample else distribution.sample)(
            self.torch.Size(shape)
        )

    def values_and_gradients(
        self, function: Callable[..., Any], module: Any, *arrays: Any
    ) -> tuple[Any, dict[str, np.ndarray], list[np.ndarray]]:
        arrays = tuple(a.clone().requires_grad_(a.is_floating_point()) for a in arrays)
        module.zero_grad()
        values = function(module, *arrays)
        (values[0] if isinstance(values, list) else values).sum().backward()
        parameters = {
            path: np.zeros(p.shape) if p.grad is None else p.grad.numpy(force=True).copy()
            for path, p in module.named_parameters()
        }
        return (
            [*map(self.numpy, values)] if isinstance(values, list) else self.numpy(values),
            parameters,
            [np.zeros(a.shape) if a.grad is None else self.numpy(a.grad) for a in arrays],
        )

    def shaken(self, module: Any, scale: float, seed: int = 0) -> Any:
        """The module with noise on all parameters, so that none is at a special value."""
        rng = np.random.default_rng(seed)
        with self.torch.no_grad():
            for parameter in module.parameters():
                parameter += self.torch.as_tensor(
                    scale * rng.standard_normal(parameter.shape), dtype=parameter.dtype
                )
        return module

    def jacobian(self, function: Callable[..., Any], x: Any) -> tuple[Any, Any]:
        """The derivatives of the first value of function(x), and the second value."""
        return self.torch.autograd.functional.jacobian(lambda x: function(x)[0], x), function(x)[1]

    def draw_and_score(self, distribution: Any, shape: tuple[int, ...]) -> Any:
        """Draws and their log-densities, in one pass."""
        return distribution.rsample_and_log_prob(self.torch.Size(shape))

    def weights(self, module: Any) -> dict[str, np.ndarray]:
        return {path: self.numpy(parameter).copy() for path, parameter in module.named_parameters()}

    def save(self, module: Any, path: Path) -> None:
        self.torch.save(module.state_dict(), path)

    def load(self, module: Any, path: Path) -> Any:
        module.load_state_dict(self.torch.load(path))
        return module

    def trace(
        self,
        function: Callable[..., Any],
        *args: Any,
        substituted: dict[str, Any] | None = None,
        seed: int = 0,
    ) -> dict[str, Any]:
        """The sites of a run: value, distribution and log-density of each."""
        self.torch.manual_seed(seed)
        poutine = self.pyro.poutine
        trace = poutine.trace(poutine.condition(function, data=substituted or {})).get_trace(*args)
        trace.compute_log_prob()
        return {
            name: {
                "value": site["value"],
                "fn": site["fn"],
                "log_prob": site["log_prob"],
                "observed": site["is_observed"],
            }
            for name, site in trace.nodes.items()
            if site["type"] == "sample" and not poutine.util.site_is_subsample(site)
        } | {
            name: {"param": site["value"]}
            for name, site in trace.nodes.items()
            if site["type"] == "param"
        }

    def call(self, function: Callable[..., Any], *arrays: Any) -> Any:
        """function(*arrays)."""
        return function(*arrays)

    def assert_same(self, function: Callable[[Any], Any], one: Any, other: Any) -> None:
        """function(module) is the same of both modules."""
        ours, theirs = (self.numpy(function(module)) for module in (one, other))
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)

    def slopes(self, function: Callable[..., Any], *arrays: Any) -> tuple[Any, ...]:
        """The gradients of the sum of function(*arrays)."""
        arrays = tuple(array.detach().requires_grad_() for array in arrays)
        return self.torch.autograd.grad(function(*arrays).sum(), arrays)

    def shapes(self, function: Callable[..., Any]) -> Any:
        """The result of function(), of which only the shapes are looked at."""
        return function()

    def exported(self, function: Callable[..., Any], module: Any, *arrays: Any) -> Any:
        """function(module, *arrays), as a graph that was captured from it."""
        torch = self.torch

        class Step(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.module = module

            def forward(self, *arrays: Any) -> Any:
                return function(self.module, *arrays)

        with self.pyro.validation_enabled(False):
            return torch.export.export(Step(), arrays, strict=False).module()(*arrays)


class NumPyroLibrary(Library):
    """NumPyro on jax."""

    def __init__(self) -> None:
        import equinox as eqx
        import jax
        import jax.numpy as jnp
        import numpyro

        import numpyro_dgm

        self.jax, self.jnp, self.eqx, self.numpyro, self.package, self.dist = (
            jax,
            jnp,
            eqx,
            numpyro,
            numpyro_dgm,
            numpyro.distributions,
        )
        self.sample, self.plate, self.exp, self.stack = (
            numpyro.sample,
            numpyro.plate,
            jnp.exp,
            jnp.stack,
        )

    def key(self, seed: int) -> Any:
        return self.jax.random.key(
            seed, impl="rbg"
        )  # compiles in a fraction of the default one's time

    def build(self, module: str, name: str, *sizes: Any, seed: int = 0, **settings: Any) -> Any:
        cls = getattr(getattr(self.package, module), name)
        key = {"key": self.key(seed)} if "key" in inspect.signature(cls).parameters else {}
        return cls(*sizes, **settings, **key)

    def array(self, x: Any) -> Any:
        x = np.asarray(x)
        return self.jax.device_put(x.astype(float) if x.dtype.kind == "f" else x)

    def numpy(self, x: Any) -> np.ndarray:
        return np.asarray(x)

    def draw(self, distribution: Any, shape: tuple[int, ...] = (), seed: int = 0) -> Any:
        return distribution.sample(self.key(seed), shape)

    def values_and_gradients(
        self, function: Callable[..., Any], module: Any, *arrays: Any
    ) -> tuple[Any, dict[str, np.ndarray], list[np.ndarray]]:
        eqx = self.eqx

        def total(inputs: Any) -> Any:
            with self.numpyro.handlers.seed(rng_seed=self.key(0)):
                values = function(*inputs)
            return (values[0] if isinstance(values, list) else values).sum(), values

        (parameters, *found), values = eqx.filter_jit(
            eqx.filter_grad(total, has_aux=True), **QUICKLY
        )((module, *arrays))
        return (
            self.jax.tree.map(np.asarray, values),
            self.weights(parameters),
            [np.zeros(a.shape) if g is None else np.asarray(g) for a, g in zip(arrays, found)],
        )

    def shaken(self, module: Any, scale: float, seed: int = 0) -> Any:
        """The module with noise on all parameters, so that none is at a special value."""
        rng = np.random.default_rng(seed)

        def noisy(x: Any) -> Any:
            if not self.eqx.is_inexact_array(x):
                return x
            noise = scale * rng.standard_normal(x.shape)
            return self.jax.device_put((np.asarray(x) + noise).astype(x.dtype))

        return self.jax.tree.map(noisy, module)

    def jacobian(self, function: Callable[..., Any], x: Any) -> tuple[Any, Any]:
        """The derivatives of the first value of function(x), and the second value."""
        return self.jax.jit(self.jax.jacfwd(function, has_aux=True), **QUICKLY)(x)

    def draw_and_score(self, distribution: Any, shape: tuple[int, ...]) -> Any:
        """Draws and their log-densities, in one pass."""
        return distribution.rsample_and_log_prob(self.key(0), shape)

    def weights(self, module: Any) -> dict[str, np.ndarray]:
        leaves = self.jax.tree_util.tree_leaves_with_path(
            self.eqx.filter(module, self.eqx.is_inexact_array)
        )
        return {
            self.jax.tree_util.keystr(path, simple=True, separator="."): np.asarray(leaf)
            for path, leaf in leaves
        }

    def save(self, module: Any, path: Path) -> None:
        self.eqx.tree_serialise_leaves(path, module)

    def load(self, module: Any, path: Path) -> Any:
        return self.eqx.tree_deserialise_leaves(path, module)

    def trace(
        self,
        function: Callable[..., Any],
        *args: Any,
        substituted: dict[str, Any] | None = None,
        seed: int = 0,
    ) -> dict[str, Any]:
        """The sites of a run: value, distribution and log-density of each."""
        handlers = self.numpyro.handlers
        seeded = handlers.seed(
            handlers.condition(function, data=substituted or {}), rng_seed=self.key(seed)
        )
        found = {}
        for name, site in handlers.trace(seeded).get_trace(*args).items():
            if site["type"] == "sample":
                log_prob = site["fn"].log_prob(site["value"])
                found[name] = {
                    "value": site["value"],
                    "fn": site["fn"],
                    "log_prob": log_prob,
                    "observed": site["is_observed"],
                }
            elif site["type"] in ("param", "mutable"):
                found[name] = {"param": site["value"]}
        return found

    def call(self, function: Callable[..., Any], *arrays: Any) -> Any:
        """function(*arrays), compiled as a whole, which is much quicker than step by step."""
        return self.jax.jit(self.numpyro.handlers.seed(function, rng_seed=self.key(0)), **QUICKLY)(
            *arrays
        )

    def assert_same(self, function: Callable[[Any], Any], one: Any, other: Any) -> None:
        """function(module) is the same of both modules: all that they hold is, to the last bit."""
        (ours, form), (theirs, other_form) = map(self.jax.tree.flatten, (one, other))
        assert form == other_form
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(np.asarray(a), np.asarray(b))

    def slopes(self, function: Callable[..., Any], *arrays: Any) -> tuple[Any, ...]:
        """The gradients of the sum of function(*arrays)."""
        places = tuple(range(len(arrays)))
        return self.jax.grad(lambda *arrays: function(*arrays).sum(), places)(*arrays)

    def shapes(self, function: Callable[..., Any]) -> Any:
        """The result of function(), of which only the shapes are looked at."""
        return self.jax.eval_shape(function)


LIBRARIES: dict[str, Callable[[], Any]] = {"pyro": PyroLibrary, "numpyro": NumPyroLibrary}
