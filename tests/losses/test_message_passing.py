"""Factor-wise critics along the graph of a model."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.losses.training import build, fit, package, parameter


def chain(backend: Any) -> tuple[Callable, Callable]:
    """z1 ~ Normal(0, 1), z2 ~ Normal(0.8 z1, 0.6^2), x ~ Normal(z2, 0.75^2); guide z2 ~ Normal(a x,
    e^2b), z1 ~ Normal(c z2, e^2d).
    """
    dist, array, exp = backend.dist, backend.array, backend.np.exp

    def model(x: Any) -> None:
        with backend.plate("data", len(x)):
            z1 = backend.sample("z1", dist.Normal(array(0.0), array(1.0)))
            z2 = backend.sample("z2", dist.Normal(0.8 * z1, array(0.6)))
            backend.sample("x", dist.Normal(z2, array(0.75)), obs=x)

    def guide(x: Any) -> None:
        a, b, c, d = (backend.param(name, array(0.0)) for name in "abcd")
        with backend.plate("data", len(x)):
            z2 = backend.sample("z2", dist.Normal(a * x, exp(b)))
            backend.sample("z1", dist.Normal(c * z2, exp(d)))

    return model, guide


POSTERIOR = {
    "a": 0.64,
    "b": math.log(0.6),
    "c": 0.8,
    "d": math.log(0.6),
}  # var z2 = 1, var x = 1.5625


def test_one_term_for_each_site_with_its_parents(backend: Any) -> None:
    losses, dist, array = backend.losses, backend.dist, backend.array
    model, _ = chain(backend)
    x = array(np.zeros(3))
    assert losses.cliques(model, x) == (("z1",), ("z1", "z2"), ("z2", "x"))
    assert (
        repr(losses.message_passing(model, x))
        == "JensenShannon('z1') + JensenShannon(('z1', 'z2')) + JensenShannon(('z2', 'x'))"
    )

    def collider(x: Any, scale: float) -> None:
        b = backend.sample("b", dist.Normal(array(0.0), array(scale)))
        with backend.plate("data", len(x)):
            a = backend.sample("a", dist.Normal(array(0.0), array(1.0)))
            backend.sample("x", dist.Normal(a + b, array(1.0)), obs=x)
            backend.sample("y", dist.Normal(a, array(1.0)))

    found = losses.message_passing(collider, x, scale=2.0, term=losses.MMD)
    assert repr(found) == "MMD('b') + MMD('a') + MMD(('b', 'a', 'x')) + MMD(('a', 'y'))"

    generator = build(backend, package(backend).conditionals.Generator, 1, context_shape=1)

    def implicit(x: Any) -> None:
        with backend.plate("data", len(x)):
            z = backend.sample("z", dist.Normal(array([0.0]), array(1.0)).to_event(1))
            backend.sample("x", package(backend).nn.register("generator", generator)(z), obs=x)

    with pytest.raises(ValueError, match="the model has implicit ones: write the sum yourself"):
        losses.message_passing(implicit, array(np.zeros((3, 1))))


@pytest.mark.slow
def test_a_linear_gaussian_chain_recovers_its_posterior(backend: Any) -> None:
    dgm = package(backend)
    model, guide = chain(backend)
    optim = dgm.Adam(0.01, betas=(0.5, 0.99))

    def term(sites: tuple[str, ...]) -> Any:
        critic = build(backend, dgm.losses.Critic, len(sites), hidden=(32,), activation="tanh")
        return dgm.losses.JensenShannon(sites, critic, optim=optim, regularizer=dgm.losses.R1(0.02))

    x = 1.25 * np.random.default_rng(0).standard_normal(8192)
    loss = dgm.losses.message_passing(model, backend.array(x), term=term)
    run = fit(
        backend,
        model,
        guide,
        x,
        loss=loss,
        optim=optim,
        num_epochs=35,
        batch_size=512,
        average=0.99,
        lr_schedule=lambda step: 1 / (1 + step / 150),
    )
    found = {name: float(parameter(run, name)) for name in POSTERIOR}
    assert found == pytest.approx(POSTERIOR, abs=0.06)


def test_separators_leave_the_divergence_of_the_joints(backend: Any) -> None:
    """For Gaussians, KL by KL in closed form; the factors alone count what they share twice."""
    losses, model = backend.losses, chain(backend)[0]
    names = ["z1", "z2", "x"]

    def joint(a: float, b: float, c: float, d: float) -> np.ndarray:
        """The covariance of x ~ Normal(0, 1.5625), z2 ~ Normal(a x, e^2b), z1 ~ Normal(c z2, e^2d)
        in the order of the names."""
        x, x_z2 = 1.5625, 1.5625 * a
        z2 = a * x_z2 + math.exp(2 * b)
        z1, z1_z2, z1_x = c * c * z2 + math.exp(2 * d), c * z2, c * x_z2
        return np.array([[z1, z1_z2, z1_x], [z1_z2, z2, x_z2], [z1_x, x_z2, x]])

    p, q = joint(**POSTERIOR), joint(0.5, 0.2, 0.6, -0.2)

    def kl(sites: tuple[str, ...]) -> float:
        index = [names.index(site) for site in sites]
        of_q, of_p = q[np.ix_(index, index)], p[np.ix_(index, index)]
        ratio = np.linalg.solve(of_p, of_q)
        return (np.trace(ratio) - len(index) - np.linalg.slogdet(ratio)[1]) / 2

    def total(separators: bool) -> float:
        loss = losses.message_passing(
            model, backend.array(np.zeros(3)), term=losses.MMD, separators=separators
        )
        return sum(weight * kl(term.sites) for weight, term in loss.terms)

    assert total(True) == pytest.approx(kl(tuple(names)), rel=1e-10)
    assert abs(total(False) - total(True)) > 0.02
    with pytest.raises(ValueError, match="Only a KL adds up over factors and separators"):
        losses.message_passing(
            model, backend.array(np.zeros(3)), term=losses.JensenShannon, separators=True
        )
