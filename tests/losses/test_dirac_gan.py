"""The Dirac-GAN (Mescheder et al. 2018): data at 0, a model at theta, a linear critic V(x) = psi x;
the simplest game in which GAN training can fail.

What follows is known of the update field (theta, psi) -> (-grad_theta of the model's loss,
-grad_psi of the critic's) near its equilibrium (0, 0).
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import optax
import pytest

from tests.losses.training import build, fit, package, parameter, trained_critic


def linear_critic(backend: Any, psi: Any) -> Any:
    """V(x) = psi x."""
    if backend.name == "pyro":

        class Linear(backend.torch.nn.Module):
            def forward(self, x: Any) -> Any:
                return psi * x

        return Linear()
    return lambda x: psi * x


def field(backend: Any, term: Any, regularizer: Any) -> Callable[[Any], Any]:
    """(theta, psi) -> what simultaneous gradient descent follows, by the term's own bound,
    surrogate and regularizer.
    """
    np_ = backend.np

    def costs(theta: Any, psi: Any) -> tuple[Any, Any]:
        critic = linear_critic(backend, psi)
        real, fake = np_.zeros(1, dtype=np_.float64), theta[None]
        for_critic = -term.bound(critic(real), critic(fake))
        if regularizer is not None:
            for_critic = for_critic + regularizer(critic, real, fake, None)
        return term.surrogate(critic(real), critic(fake)), for_critic

    def pyro_run(state: Any) -> Any:
        theta, psi = state if state.requires_grad else state.clone().requires_grad_()
        for_model, for_critic = costs(theta, psi)
        grad = backend.torch.autograd.grad
        return -np_.stack(
            [
                grad(for_model, theta, create_graph=True)[0],
                grad(for_critic, psi, create_graph=True)[0],
            ]
        )

    def numpyro_run(state: Any) -> Any:
        grad = backend.jax.grad
        return -np_.stack(
            [
                grad(lambda theta: costs(theta, state[1])[0])(state[0]),
                grad(lambda psi: costs(state[0], psi)[1])(state[1]),
            ]
        )

    return pyro_run if backend.name == "pyro" else backend.jax.jit(numpyro_run)


def terms(backend: Any) -> dict[str, tuple[Any, Any]]:
    losses = package(backend).losses
    return {
        "saturating": (losses.JensenShannon("x", generator="saturating"), None),
        "non_saturating": (losses.JensenShannon("x"), None),
        "R1": (losses.JensenShannon("x"), losses.R1(1.0)),
        "R2": (losses.JensenShannon("x", generator="saturating"), losses.R2(1.0)),
        "WGAN": (losses.Wasserstein("x"), None),
    }


EIGENVALUES = {
    "saturating": [0.5j, -0.5j],
    "non_saturating": [0.5j, -0.5j],
    "R1": [-0.5, -0.5],
    "R2": [-0.5, -0.5],
    "WGAN": [1j, -1j],
}


@pytest.mark.parametrize("name", EIGENVALUES)
def test_eigenvalues_at_the_equilibrium(backend: Any, name: str) -> None:
    """[[0, f'(0)], [-f'(0), -gamma]] with f'(0) = 1/2: a rotation without regularizer, critically
    damped with one at gamma = 1.
    """
    run = field(backend, *terms(backend)[name])
    at = backend.array([0.0, 0.0])
    jacobian = np.asarray(
        backend.torch.autograd.functional.jacobian(run, at)
        if backend.name == "pyro"
        else backend.jax.jacobian(run)(at)
    )
    slope, damping = (1.0 if name == "WGAN" else 0.5), (1.0 if name in ("R1", "R2") else 0.0)
    np.testing.assert_allclose(jacobian, [[0, slope], [-slope, -damping]], atol=1e-12)
    found, expected = (
        sorted(values, key=lambda value: value.imag)
        for values in (np.linalg.eigvals(jacobian), np.array(EIGENVALUES[name], complex))
    )
    np.testing.assert_allclose(
        found, expected, atol=1e-7
    )  # a double eigenvalue is known to half the digits


def descend(
    run: Callable[[Any], Any],
    backend: Any,
    num_steps: int,
    start: float = 1.0,
    step_size: float = 0.1,
) -> np.ndarray:
    """The distances from the equilibrium along simultaneous gradient descent from one on the
    diagonal, (num_steps + 1,).
    """
    state = np.full(2, start * 0.5**0.5)
    path = [state]
    for _ in range(num_steps):
        moved = run(backend.array(state))
        state = state + step_size * np.asarray(moved.detach() if backend.name == "pyro" else moved)
        path.append(state)
    return np.linalg.norm(path, axis=1)


def test_simultaneous_descent(backend: Any) -> None:
    """The unregularized GAN spirals outwards, the WGAN at the exact rate sqrt(1 + h^2) per step;
    with R1 or R2 they come to rest at the equilibrium.
    """
    radius = {
        name: descend(field(backend, *pair), backend, 400) for name, pair in terms(backend).items()
    }
    assert radius["saturating"][-1] > 1.3
    assert (np.diff(radius["saturating"][::130]) > 0).all()  # per turn
    np.testing.assert_allclose(radius["WGAN"], 1.01 ** (np.arange(401) / 2), rtol=1e-9)
    assert radius["non_saturating"][-1] > 0.5  # drawn inwards from afar, but only to a circle:
    assert (
        np.diff(
            descend(field(backend, *terms(backend)["non_saturating"]), backend, 400, start=0.05)[
                ::130
            ]
        )
        > 0
    ).all()
    assert radius["R1"][-1] < 1e-6
    assert radius["R2"][-1] < 1e-6


@pytest.mark.parametrize("regularized", [False, True])
def test_training_by_fit(backend: Any, regularized: bool) -> None:
    """Alternating steps of a real run: with R1 the model finds the data; without it keeps circling
    at about the distance where it started.
    """
    losses = package(backend).losses
    lr = 0.1
    optim = (
        (lambda parameters: backend.torch.optim.SGD(parameters, lr))
        if backend.name == "pyro"
        else optax.sgd(lr)
    )
    critic = build(backend, losses.Critic, 1, hidden=())
    term = losses.JensenShannon(
        "x",
        critic,
        generator="saturating",
        optim=optim,
        regularizer=losses.R1(1.0) if regularized else None,
    )
    dist = backend.dist

    def model(x: Any) -> None:
        theta = backend.param("theta", backend.array(1.0))
        with backend.plate("data", len(x)):
            backend.sample("x", dist.Delta(theta), obs=x)

    run = fit(backend, model, None, np.zeros(4), loss=term, optim=optim, num_epochs=300)
    outputs = trained_critic(backend, term, run)(backend.array([[1.0], [0.0]]))
    slope = np.diff(outputs.detach().numpy() if backend.name == "pyro" else outputs)[0]
    distance = np.hypot(parameter(run, "theta"), slope)
    assert distance < 1e-3 if regularized else distance > 0.7, distance
