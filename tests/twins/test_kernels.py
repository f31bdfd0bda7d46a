"""Kernels take equal steps in both backends, with equal noise, and have equal gradients."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import numpyro_dgm.mcmc as numpyro_mcmc
import pyro_dgm.mcmc as pyro_mcmc

MAKE = {
    "HMC": lambda m, one: m.HMC(0.3 * one, 4, inverse_mass=1.7),
    "MALA": lambda m, one: m.MALA(0.6 * one, inverse_mass=0.6),
    "Langevin": lambda m, one: m.Langevin(0.3 * one, 3, temperature=0.7),
}


def steps(m: Any, np_: Any, make: Any, theta: Any, x: Any, noises: Any) -> Any:
    """Two transitions of a density with parameters: a number that depends on all there is."""

    def log_density(y: Any) -> Any:
        return (theta[0] * y - np_.exp(theta[1] * y)).sum(-1)

    kernel, total = make(m, theta[2]), 0.0
    state = m.start(log_density, x)
    for normal, uniform in noises:
        state, info = kernel(log_density, state, m.Noise(normal, uniform))
        total = total + (state.position**2).sum() + state.log_density.sum()
        total = total + (state.gradient * state.position).sum() + info.acceptance.sum()
    return total, (state, info)


@pytest.mark.parametrize("name", MAKE)
def test_kernels_agree(name: str, x64: None) -> None:
    rng = np.random.default_rng(0)
    theta, x = np.array([1.2, 0.8, 1.0]), rng.normal(size=(5, 2))
    shape = (3, 5, 2) if name == "Langevin" else (5, 2)
    noises = [(rng.normal(size=shape), rng.uniform(size=5)) for _ in range(2)]

    def of_jax(theta: Any, x: Any) -> Any:
        return steps(numpyro_mcmc, jnp, MAKE[name], theta, x, noises)

    compiled = jax.jit(jax.value_and_grad(of_jax, (0, 1), has_aux=True))
    (value, parts), gradients = compiled(jnp.asarray(theta), jnp.asarray(x))
    leaves = [torch.tensor(array, requires_grad=True) for array in (theta, x)]
    given = [tuple(map(torch.as_tensor, noise)) for noise in noises]
    twin, twin_parts = steps(pyro_mcmc, torch, MAKE[name], *leaves, given)
    assert twin.item() == pytest.approx(float(value), rel=1e-10)
    for ours, theirs in zip(jax.tree.leaves(tuple(map(tuple, twin_parts))), jax.tree.leaves(parts)):
        np.testing.assert_allclose(ours.detach().numpy(), theirs, rtol=1e-10, atol=1e-10)
    for ours, theirs in zip(torch.autograd.grad(twin, leaves), gradients, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-10)
        assert np.abs(theirs).min() > 1e-3


def test_a_transition_can_be_exported() -> None:
    """As the compiled steps of a fit are."""

    class Step(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.tensor(1.3))

        def forward(self, x: torch.Tensor, normal: torch.Tensor) -> torch.Tensor:
            def log_density(y: torch.Tensor) -> torch.Tensor:
                return -(self.scale * y**2).sum(-1)

            state = pyro_mcmc.start(log_density, x)
            noise = pyro_mcmc.Noise(normal, torch.full((4,), 0.1))
            return pyro_mcmc.HMC(0.2, 3)(log_density, state, noise)[0].position.sum()

    x, normal, step = torch.randn(4, 2), torch.randn(4, 2), Step()
    exported = torch.export.export(step, (x, normal), strict=False).module()
    expected, found = step(2 * x, normal), exported(2 * x, normal)
    torch.testing.assert_close(found, expected)
    (gradient,) = torch.autograd.grad(expected, [step.scale])
    torch.testing.assert_close(*torch.autograd.grad(found, list(exported.parameters())), gradient)


def test_kernels_run_inside_a_scanned_step() -> None:
    """Persistent chains: a state carried through jax.lax.scan, with a parameter that changes."""

    def log_density_at(scale: Any) -> Any:
        return lambda x: -0.5 * (x**2).sum(-1) / scale**2

    def step(carry: Any, key: Any) -> Any:
        x, scale = carry
        log_density, kernel = log_density_at(scale), numpyro_mcmc.HMC(0.5 * scale, 3)
        state = numpyro_mcmc.start(log_density, x)
        state, _ = kernel(log_density, state, kernel.noise(state, key=key))
        return (state.position, 1.05 * scale), None

    keys = jax.random.split(jax.random.key(0), 30)
    (x, scale), _ = jax.jit(lambda x: jax.lax.scan(step, (x, jnp.ones(())), keys))(
        jnp.zeros((3000, 1))
    )
    assert jnp.std(x) / scale == pytest.approx(1, abs=0.1)
