"""One face for both libraries, so that a contract is written once and runs in each."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.cases import Conditional, Model, Network


class Library:
    """What both libraries share."""

    package: Any

    def build(self, module: str, name: str, *sizes: Any, seed: int = 0, **settings: Any) -> Any:
        raise TypeError("A library builds modules.")

    def conditional(self, case: Conditional, context_dim: int, *, small: bool = False, seed: int = 0) -> Any:
        sizes = case.small if small else case.sizes
        return self.build(case.module, case.name, *sizes, seed=seed, context_dim=context_dim, **case.settings)

    def network(self, case: Network, seed: int = 0) -> Any:
        return self.build("nn", case.name, *case.sizes, seed=seed, **case.settings)

    def evaluate_network(self, network: Any, x: Any) -> Any:
        with self.package.nn.evaluation_mode(network):
            return network(x)

    def model(self, case: Model, seed: int = 0) -> Any:
        parts = {role: self.build(*part[:2], *part[2], seed=seed, **part[3]) for role, part in case.parts.items()}
        return self.build("models", case.name, *case.sizes, seed=seed, **case.settings, **parts)


class PyroLibrary(Library):
    """Pyro on torch."""

    def __init__(self) -> None:
        import pyro
        import torch

        import pyro_dgm

        self.pyro, self.torch, self.package, self.dist = pyro, torch, pyro_dgm, pyro.distributions
        self.sample, self.plate, self.exp = pyro.sample, pyro.plate, torch.exp

    def build(self, module: str, name: str, *sizes: Any, seed: int = 0, **settings: Any) -> Any:
        self.torch.manual_seed(seed)
        return getattr(getattr(self.package, module), name)(*sizes, **settings)

    def array(self, x: Any) -> Any:
        x = np.asarray(x)
        return self.torch.as_tensor(x, dtype=self.torch.get_default_dtype() if x.dtype.kind == "f" else None)

    def numpy(self, x: Any) -> np.ndarray:
        return x.detach().numpy()

    def draw(self, distribution: Any, shape: tuple[int, ...] = (), seed: int = 0) -> Any:
        self.torch.manual_seed(seed)
        return (distribution.rsample if distribution.has_rsample else distribution.sample)(self.torch.Size(shape))

    def gradients(self, function: Callable[..., Any], module: Any, *arrays: Any) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
        """Gradients of sum(function(module, *arrays)) with respect to the parameters, by path, and to the arrays."""
        arrays = tuple(a.clone().requires_grad_(a.is_floating_point()) for a in arrays)
        module.zero_grad()
        function(module, *arrays).sum().backward()
        parameters = {path: np.zeros(p.shape) if p.grad is None else p.grad.numpy().copy() for path, p in module.named_parameters()}
        return parameters, [np.zeros(a.shape) if a.grad is None else a.grad.numpy() for a in arrays]

    def weights(self, module: Any) -> dict[str, np.ndarray]:
        return {path: parameter.detach().numpy().copy() for path, parameter in module.named_parameters()}

    def save(self, module: Any, path: Path) -> None:
        self.torch.save(module.state_dict(), path)

    def load(self, module: Any, path: Path) -> Any:
        module.load_state_dict(self.torch.load(path))
        return module

    def trace(self, function: Callable[..., Any], *args: Any, substituted: dict[str, Any] | None = None, seed: int = 0) -> dict[str, Any]:
        """The sites of a run: value, distribution and log-density of each."""
        self.torch.manual_seed(seed)
        poutine = self.pyro.poutine
        trace = poutine.trace(poutine.condition(function, data=substituted or {})).get_trace(*args)
        trace.compute_log_prob()
        return {
            name: {"value": site["value"], "fn": site["fn"], "log_prob": site["log_prob"], "observed": site["is_observed"]}
            for name, site in trace.nodes.items()
            if site["type"] == "sample" and not poutine.util.site_is_subsample(site)
        } | {name: {"param": site["value"]} for name, site in trace.nodes.items() if site["type"] == "param"}

    def call(self, function: Callable[..., Any], *arrays: Any) -> Any:
        """function(*arrays)."""
        return function(*arrays)

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

        self.jax, self.jnp, self.eqx, self.numpyro, self.package, self.dist = jax, jnp, eqx, numpyro, numpyro_dgm, numpyro.distributions
        self.sample, self.plate, self.exp = numpyro.sample, numpyro.plate, jnp.exp

    def key(self, seed: int) -> Any:
        return self.jax.random.key(seed, impl="rbg")  # compiles in a fraction of the default one's time

    def build(self, module: str, name: str, *sizes: Any, seed: int = 0, **settings: Any) -> Any:
        key = {} if name in ("BatchNorm", "Dropout") else {"key": self.key(seed)}
        return getattr(getattr(self.package, module), name)(*sizes, **settings, **key)

    def array(self, x: Any) -> Any:
        x = np.asarray(x)
        return self.jnp.asarray(x, dtype=float if x.dtype.kind == "f" else None)

    def numpy(self, x: Any) -> np.ndarray:
        return np.asarray(x)

    def draw(self, distribution: Any, shape: tuple[int, ...] = (), seed: int = 0) -> Any:
        return distribution.sample(self.key(seed), shape)

    def gradients(self, function: Callable[..., Any], module: Any, *arrays: Any) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
        """Gradients of sum(function(module, *arrays)) with respect to the parameters, by path, and to the arrays."""
        eqx = self.eqx

        def total(inputs: Any) -> Any:
            with self.numpyro.handlers.seed(rng_seed=self.key(0)):
                return function(*inputs).sum()

        parameters, *found = eqx.filter_jit(eqx.filter_grad(total))((module, *arrays))
        return self.weights(parameters), [np.zeros(a.shape) if g is None else np.asarray(g) for a, g in zip(arrays, found)]

    def weights(self, module: Any) -> dict[str, np.ndarray]:
        leaves = self.jax.tree_util.tree_leaves_with_path(self.eqx.filter(module, self.eqx.is_inexact_array))
        return {self.jax.tree_util.keystr(path, simple=True, separator="."): np.asarray(leaf) for path, leaf in leaves}

    def save(self, module: Any, path: Path) -> None:
        self.eqx.tree_serialise_leaves(path, module)

    def load(self, module: Any, path: Path) -> Any:
        return self.eqx.tree_deserialise_leaves(path, module)

    def trace(self, function: Callable[..., Any], *args: Any, substituted: dict[str, Any] | None = None, seed: int = 0) -> dict[str, Any]:
        """The sites of a run: value, distribution and log-density of each."""
        handlers = self.numpyro.handlers
        seeded = handlers.seed(handlers.condition(function, data=substituted or {}), rng_seed=self.key(seed))
        found = {}
        for name, site in handlers.trace(seeded).get_trace(*args).items():
            if site["type"] == "sample":
                log_prob = site["fn"].log_prob(site["value"])
                found[name] = {"value": site["value"], "fn": site["fn"], "log_prob": log_prob, "observed": site["is_observed"]}
            elif site["type"] in ("param", "mutable"):
                found[name] = {"param": site["value"]}
        return found

    def call(self, function: Callable[..., Any], *arrays: Any) -> Any:
        """function(*arrays), compiled as a whole, which is much quicker than step by step."""
        return self.jax.jit(self.numpyro.handlers.seed(function, rng_seed=self.key(0)))(*arrays)

    def shapes(self, function: Callable[..., Any]) -> Any:
        """The result of function(), of which only the shapes are looked at."""
        return self.jax.eval_shape(function)


LIBRARIES: dict[str, Callable[[], Any]] = {"pyro": PyroLibrary, "numpyro": NumPyroLibrary}
