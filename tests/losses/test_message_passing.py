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

    generator = build(backend, package(backend).conditionals.Generator, 1, context_dim=1)

    def implicit(x: Any) -> None:
        with backend.plate("data", len(x)):
            z = backend.sample("z", dist.Normal(array([0.0]), array(1.0)).to_event(1))
            backend.sample("x", package(backend).nn.register("generator", generator)(z), obs=x)

    with pytest.raises(ValueError, match="the model has implicit ones: write the sum yourself"):
        losses.message_passing(implicit, array(np.zeros((3, 1))))


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
