"""Annealed trajectories are the same in both backends, with the same noise."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dgm_core.annealing.passes import Passes, Plan
from dgm_core.annealing.store import Store
from dgm_core.training.progress import Progress
from tests.backends import NumPyroBackend, PyroBackend
from tests.evaluation import closed_forms as c
from tests.mcmc.faces import kernels

STEPS, CHAINS = 5, 3
BETAS = np.array([0.0, 0.1, 0.25, 0.5, 0.8, 1.0])


def shared(b: Any, shape: tuple[int, ...]) -> Callable:
    """Hamiltonian transitions whose noise is that of their temperature."""
    rng = np.random.default_rng(3)
    normal = b.array(rng.normal(size=(STEPS + 1, *shape)))
    uniform = b.array(rng.uniform(size=(STEPS + 1, *shape[:2])))
    mcmc, betas = kernels(b), b.array(BETAS)

    class Shared:
        def __init__(self, beta: Any) -> None:
            self.place = (betas < beta - 1e-9).sum()
            self.kernel = mcmc.HMC(0.3, 2)

        def noise(self, state: Any, **key: Any) -> Any:
            return mcmc.Noise(normal[self.place], uniform[self.place])

        def __call__(self, log_density: Any, state: Any, noise: Any) -> Any:
            return self.kernel(log_density, state, noise)

    def at(beta: Any) -> Shared:
        return Shared(beta)

    return at


def bridge_of(b: Any, call: Any, kernel: Any) -> Any:
    if b.name == "pyro":
        from pyro_dgm.evaluation.bridge import Bridge
    else:
        from numpyro_dgm.evaluation.bridge import Bridge
    return Bridge(call, CHAINS, kernel)


def calling(b: Any) -> Any:
    if b.name == "pyro":
        from pyro_dgm.evaluation.calls import calling
    else:
        from numpyro_dgm.evaluation.calls import calling
    return calling


@pytest.mark.parametrize("name", ["beta_binomial", "gamma_poisson", "hierarchy"])
def test_trajectories_agree(name: str) -> None:
    data = {
        "beta_binomial": c.SUCCESSES,
        "gamma_poisson": c.COUNTS,
        "hierarchy": c.GROUPS,
    }[name]
    found = []
    for b in (PyroBackend(), NumPyroBackend()):
        with b.double_precision():
            run = SimpleNamespace(**dict(zip(("model", "guide"), getattr(c, name)(b), strict=True)))
            with calling(b)(run, (data,)) as call:
                bridge = bridge_of(b, call, None)
                shape = (CHAINS, bridge.num_data, bridge.places.width)
                bridge.kernel = shared(b, shape)
                plan = Plan(tuple(BETAS), STEPS, False, 0.65, True, 0, None)
                starts, ends = np.random.default_rng(5).normal(size=(2, *shape))
                with Progress(enabled=False) as bar:
                    bounds = Passes(bridge, plan, Store(None, {}), bar).bounds(starts, ends)
                found.append((bounds.forward, bounds.reverse, bridge.weights(starts, None)))
                accepted = bounds.acceptance
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-10)
    assert 0.1 < accepted["forward"] < 1  # of which some were refused
    assert np.abs(found[0][0]).min() > 1e-3
