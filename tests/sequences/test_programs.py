"""Sequences written step by step: a scan in NumPyro, a loop in Pyro. Whatever ignores the data runs
free: no later step sees them.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.losses.test_scan import SERIES, SHIFT, A, Q, R, log_evidence, messages

NUM, LENGTH = 4000, 4
DATA = np.full((LENGTH, NUM), 100.0)  # far from all that the model draws


def chain_in_numpyro(x: Any) -> None:
    """z_t ~ Normal(x_{t-1} / 2, 1),  x_t ~ Normal(z_t, 1)."""
    import jax.numpy as jnp
    import numpyro
    import numpyro.distributions as dist
    from numpyro.contrib.control_flow import scan

    def step(last: Any, x_t: Any) -> Any:
        with numpyro.plate("data", NUM):
            z = numpyro.sample("z", dist.Normal(last / 2, 1.0))
            return numpyro.sample("x", dist.Normal(z, 1.0), obs=x_t), None

    scan(step, jnp.zeros(NUM), x)


def chain_in_pyro(x: Any) -> None:
    """The same, with a site for each step."""
    import pyro
    import pyro.distributions as dist
    import torch

    last, rows = torch.zeros(NUM), pyro.plate("data", NUM)
    for t in pyro.markov(range(LENGTH)):
        with rows:
            z = pyro.sample(f"z{t}", dist.Normal(last / 2, 1.0))
            last = pyro.sample(f"x{t}", dist.Normal(z, 1.0), obs=x[t])


def no_guide(x: Any) -> None:
    """Draws nothing: the generative joint needs no guide."""


def free_running_draws(backend: Any) -> tuple[np.ndarray, np.ndarray]:
    """Draws of x (LENGTH, NUM) by the generative joint, and what it knows as the data."""
    x = backend.array(DATA)
    if backend.name == "pyro":
        nodes = backend.joints.Joints(chain_in_pyro, no_guide, (x,)).generative().nodes
        return tuple(
            np.stack([part(nodes[f"x{t}"]).numpy() for t in range(LENGTH)])
            for part in (lambda site: site["value"], lambda site: site["infer"]["obs"])
        )
    import jax

    def run(key: Any) -> Any:
        joints = backend.joints.Joints(key, {}, chain_in_numpyro, no_guide, (x,))
        site = joints.generative()["x"]
        return site["value"], site["infer"]["obs"]

    return tuple(map(np.asarray, jax.jit(run)(jax.random.key(0))))


def test_the_generative_joint_never_sees_the_data(backend: Any) -> None:
    """Moments of x: var_t = var_{t-1} / 4 + 2, and half of it with the next step."""
    draws, data = free_running_draws(backend)
    np.testing.assert_array_equal(data, DATA)
    variances = 8 / 3 * (1 - 0.25 ** np.arange(1, LENGTH + 1))
    error = 5 * np.sqrt(variances / NUM)
    assert (abs(draws.mean(1)) < error).all()
    found = np.cov(draws)
    assert (abs(found.diagonal() - variances) < 5 * variances * np.sqrt(2 / NUM)).all()
    lag = variances[:-1] / 2
    assert (abs(found.diagonal(1) - lag) < 5 * np.sqrt(2 / NUM) * variances[1:]).all()


def steps(model: bool) -> Callable[..., None]:
    """The model, or its exact posterior, of the two series of `test_scan`, a site for each step."""
    import pyro
    import pyro.distributions as dist
    import torch

    precision, shift = map(torch.as_tensor, messages(SERIES))

    def program(x: Any) -> None:
        z, series = torch.zeros(2), pyro.plate("series", 2)
        for t in pyro.markov(range(len(x))):
            with series:
                prior = Q if t else 1.0
                if model:
                    z = pyro.sample(f"z{t}", dist.Normal(A * z, prior**0.5))
                    pyro.sample(f"x{t}", dist.Normal(z + SHIFT, R**0.5), obs=x[t])
                else:
                    variance = 1 / (1 / prior + precision[t])
                    mean = variance * (A * z / prior + shift[t])
                    z = pyro.sample(f"z{t}", dist.Normal(mean, variance.sqrt()))

    return program


def test_a_site_for_each_step_in_pyro(torch_x64: None) -> None:
    """The published value, without variance."""
    import torch

    from pyro_dgm.losses import ELBO, IWAE

    x = torch.as_tensor(SERIES)
    exact = -sum(map(log_evidence, SERIES.T))
    for loss in (ELBO(num_particles=3), ELBO(estimator="stl"), IWAE(2), IWAE(2, "dreg")):
        found = loss.evaluate(steps(model=True), steps(model=False), (x,))
        assert found.data_size == 2
        assert found.loss.item() == pytest.approx(exact, rel=1e-9)
