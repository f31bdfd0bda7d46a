"""Gradients from minibatches have the mean of those from all data."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.guides.test_amortized import Identity, key
from tests.twins.copying import arrays_of, shake

Y = np.random.default_rng(3).normal(0.5, 1.5, 12)
NUM = 1500


def levels(b: Any, present: int) -> Callable:
    """A global mean and scale, a level of each of twelve data, some of which are present."""
    d = b.dist

    def model(y: Any) -> None:
        mu = b.sample("mu", d.Normal(b.array(0.0), b.array(2.0)))
        tau = b.sample("tau", d.Gamma(b.array(3.0), b.array(3.0)))
        with b.plate("data", 12, subsample_size=present) as rows:
            theta = b.sample("theta", d.Normal(mu, tau))
            b.sample("y", d.Normal(theta, b.array(0.5)), obs=y[rows])

    return model


def moments(b: Any, guide: Any, model: Callable, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of the mean of the gradients of the ELBO in all parameters."""
    loss, y = b.losses.ELBO(), b.array(Y)
    if b.name == "pyro":
        b.torch.manual_seed(seed)
        parameters, found = list(guide.parts.parameters()), []
        for _ in range(NUM):
            value = loss.evaluate(model, guide, (y,), {}).loss
            gradients = b.torch.autograd.grad(value, parameters)
            found.append(np.concatenate([g.numpy().ravel() for g in gradients]))
        gradients = np.stack(found)
    else:
        import equinox as eqx

        parts, static = eqx.partition(guide.parts, eqx.is_inexact_array)

        def value(parts: Any, key: Any) -> Any:
            guide.parts = eqx.combine(parts, static)
            return loss.evaluate(key, {}, model, guide, (y,), {}).loss

        keys = b.jax.random.split(b.jax.random.key(seed), NUM)
        found = b.jax.jit(b.jax.vmap(b.jax.grad(value), (None, 0)))(parts, keys)
        guide.parts = eqx.combine(parts, static)
        gradients = np.concatenate(
            [np.asarray(g).reshape(NUM, -1) for g in arrays_of(found).values()], 1
        )
    return gradients.mean(0), gradients.var(0) / NUM


@pytest.mark.slow
def test_minibatches_leave_the_gradient_where_it_is(backend: Any) -> None:
    """Four of twelve data against all: no parameter's mean is off by 4.5 standard errors; twice
    the scale of the data would be seen."""
    b = backend
    build = b.guides.AmortizedGuide
    families = {"theta": b.conditionals.DiagonalNormal}
    some, every = levels(b, 4), levels(b, 12)
    if b.name == "pyro":
        b.torch.manual_seed(0)
    guides = [build(m, Identity(), families, **key(b)).prepare(b.array(Y)) for m in (some, every)]
    if b.name == "pyro":
        shake(guides[0].parts, scale=0.2)
        guides[1].parts = guides[0].parts
    else:
        guides[1].parts = guides[0].parts
    (mean, variance), (whole, of_whole) = (
        moments(b, guide, model, seed)
        for seed, (guide, model) in enumerate(zip(guides, (some, every), strict=True))
    )
    z = (mean - whole) / np.sqrt(variance + of_whole)
    assert len(z) == 17
    assert np.abs(z).max() < 4.5
    assert 0.2 < np.mean(z**2) < 3.0
    assert np.abs((2 * mean - whole) / np.sqrt(4 * variance + of_whole)).max() > 4.5
