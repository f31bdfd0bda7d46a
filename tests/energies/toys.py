"""Energies with known answers, written once for both libraries."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

H = 0.1  # of Langevin steps x - h l x + sqrt(2 h) noise, so that e^2 = 2 h
STEP = (2 * H) ** 0.5


def hadamard(order: int) -> np.ndarray:
    """Rows of +-1 whose columns are orthogonal, (2^order, 2^order): moments of the second order of
    independent numbers are exact on them."""
    found = np.ones((1, 1))
    for _ in range(order):
        found = np.block([[found, found], [found, -found]])
    return found


def part(backend: Any, name: str) -> Any:
    """A module of the library's package, such as "mcmc"."""
    return import_module(f"{backend.name}_dgm.{name}")


def normal(backend: Any, dim: int = 1, mean: float = 0.0, variance: float = 1.0) -> Any:
    """Normal(mean, variance I) of one event."""
    loc = backend.array(np.full(dim, mean))
    return backend.dist.Normal(loc, backend.array(np.full(dim, variance**0.5))).to_event(1)


def unnormalized(backend: Any, potential: Callable, dim: int = 1, variance: float = 1.0) -> Any:
    """A distribution with a potential, whose base is normal."""
    base, kernel = normal(backend, dim, variance=variance), part(backend, "mcmc").MALA(0.5)
    return backend.conditionals.UnnormalizedDistribution(potential, base, kernel, 5)


def quadratic(backend: Any) -> Callable:
    """x ~ exp(-l x^2 / 2 + c) / Z, one number; with parameters l and c."""

    def model(x: Any) -> None:
        rate, c = backend.param("l"), backend.param("c")
        energy = unnormalized(backend, lambda value: -rate * value[..., 0] ** 2 / 2 + c)
        with backend.plate("data", len(x)):
            backend.sample("x", energy, obs=x)

    return model


def tilted(backend: Any, guide_at_z: bool = False) -> tuple[Callable, Callable]:
    """z ~ Normal(0, 1) exp(-A z^2 / 2 + B z) / Z,  x ~ Normal(z, 0.5); the guide is the posterior
    at A = .8, B = .6, or states the draws that it is given."""
    dist, array = backend.dist, backend.array

    def model(x: Any, z: Any = None) -> None:
        a, b = backend.param("A"), backend.param("B")
        base = normal(backend)

        def potential(z: Any) -> Any:
            return base.log_prob(z) - a * z[..., 0] ** 2 / 2 + b * z[..., 0]

        prior = backend.conditionals.UnnormalizedDistribution(
            potential, base, part(backend, "mcmc").MALA(0.5), 5
        )
        with backend.plate("data", len(x)):
            z = backend.sample("z", prior)
            backend.sample("x", dist.Normal(z, array(0.5**0.5)).to_event(1), obs=x)

    def guide(x: Any, z: Any = None) -> None:
        with backend.plate("data", len(x)):
            if guide_at_z:
                backend.sample("z", dist.Delta(z).to_event(1))
                return
            precision = 1.8 + 2
            loc = (0.6 + 2 * x) / precision
            backend.sample("z", dist.Normal(loc, array(precision**-0.5)).to_event(1))

    return model, guide


def numbers(x: Any) -> np.ndarray:
    """An array of either library in numpy."""
    return x.detach().numpy() if hasattr(x, "detach") else np.asarray(x)


def nothing(*args: Any, **kwargs: Any) -> None:
    """A guide that draws nothing."""


def with_noise(backend: Any, step_size: float, noise: np.ndarray) -> Any:
    """Langevin steps whose noise is given: (num_steps, chains, dim)."""
    mcmc = part(backend, "mcmc")

    class Given(mcmc.Langevin):  # type: ignore[misc, name-defined]
        def noise(self, state: Any, **key: Any) -> Any:
            return mcmc.Noise(backend.array(noise), backend.np.zeros_like(state.log_density))

    return Given(step_size, len(noise))


def stock(
    backend: Any,
    model: Callable,
    loss: Any,
    x: np.ndarray,
    params: dict[str, float],
    rate: float,
    num_steps: int,
) -> np.ndarray:
    """The path of the parameters in `num_steps` steps of gradient descent of the stock engine."""
    x = backend.array(x)
    if backend.name == "pyro":
        pyro = backend.pyro
        pyro.clear_param_store()
        store = pyro.get_param_store()
        for name, value in params.items():
            store.setdefault(name, backend.array(value).clone())
        svi = pyro.infer.SVI(model, nothing, pyro.optim.SGD({"lr": rate / len(x)}), loss)
        path = []
        for _ in range(num_steps):
            svi.step(x)
            path.append([store[name].item() for name in params])
        return np.array(path)
    import optax

    jax, numpyro = backend.jax, backend.numpyro
    start = {name: backend.array(value) for name, value in params.items()}

    def stated(*args: Any) -> None:
        for name, value in start.items():
            numpyro.param(name, value)

    svi = numpyro.infer.SVI(model, loss.attach(stated), optax.sgd(rate / len(x)), loss)
    state = jax.jit(svi.init)(jax.random.key(0), x)

    def step(state: Any, _: Any) -> Any:
        state, _ = svi.update(state, x)
        return state, svi.get_params(state)

    _, path = jax.jit(lambda state: jax.lax.scan(step, state, length=num_steps))(state)
    return np.stack([np.asarray(path[name]) for name in params], 1)
