"""One face for the kernels of both libraries: arrays in and out, in double precision."""

from collections.abc import Callable
from typing import Any

import numpy as np


def kernels(b: Any) -> Any:
    """The module `mcmc` of a backend."""
    if b.name == "pyro":
        from pyro_dgm import mcmc
    else:
        from numpyro_dgm import mcmc
    return mcmc


def transition(
    b: Any, kernel: Any, log_density: Callable, x: np.ndarray, normal: np.ndarray, uniform: Any
) -> tuple[Any, Any]:
    """One transition with the given noise, as numpy arrays."""
    mcmc = kernels(b)
    noise = mcmc.Noise(b.array(normal), b.array(uniform))
    if b.name == "pyro":
        with b.torch.no_grad():
            state = mcmc.start(log_density, b.array(x))
            both = kernel(log_density, state, noise)
        return tuple(type(one)(*(part.numpy() for part in one)) for one in both)
    state = mcmc.start(log_density, b.array(x))
    both = b.jax.jit(lambda state, noise: kernel(log_density, state, noise))(state, noise)
    return tuple(type(one)(*(np.asarray(part) for part in one)) for one in both)


def run_chain(
    b: Any, kernel: Any, log_density: Callable, x: np.ndarray, num_steps: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Positions and acceptance of a chain, as numpy arrays."""
    if b.name == "pyro":
        b.torch.manual_seed(seed)
        with b.torch.no_grad():
            _, positions, info = kernels(b).chain(kernel, log_density, b.array(x), num_steps)
    else:
        key = b.jax.random.key(seed)
        _, positions, info = kernels(b).chain(kernel, log_density, b.array(x), num_steps, key=key)
    return np.asarray(positions), np.asarray(info.acceptance)
