"""Losses on models as users write them, beside the stock engines: values and gradients."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.losses.user_models import MODELS, PARAMS

FEW = ("deterministic", "factors", "crossed", "two likelihoods", "masked")


def stock(b: Any, model: Callable, guide: Callable, *args: Any) -> tuple[float, dict]:
    """Value and gradient of the backend's own Trace_ELBO."""
    args = tuple(b.array(a) for a in args)
    if b.name == "pyro":
        store = b.pyro.get_param_store()
        store.clear()
        for name, value in PARAMS.items():
            store.setdefault(name, b.array(value))
        loss = b.pyro.infer.Trace_ELBO().differentiable_loss(model, guide, *args)
        found = b.torch.autograd.grad(loss, [store._params[n] for n in PARAMS], allow_unused=True)
        return loss.item(), {n: 0.0 if g is None else g.item() for n, g in zip(PARAMS, found)}
    from numpyro.infer import Trace_ELBO

    with b.jax.enable_x64(True):
        values = {name: b.array(value) for name, value in PARAMS.items()}
        key = b.jax.random.key(0)
        total = b.jax.value_and_grad(lambda v: Trace_ELBO().loss(key, v, model, guide, *args))
        value, gradient = b.jax.jit(total)(values)
        return float(value), {name: float(g) for name, g in gradient.items()}


def same(found: tuple, expected: tuple) -> None:
    assert found[0] == pytest.approx(expected[0], rel=1e-9)
    for name, gradient in expected[-1].items():
        assert found[-1][name] == pytest.approx(gradient, rel=1e-7, abs=1e-9), name


@pytest.mark.parametrize("name", MODELS)
def test_as_the_stock_engine(backend: Any, name: str) -> None:
    """With equal particles all bounds are the same number, whatever factorizes."""
    make, y = MODELS[name]
    model, guide = make(backend)
    expected = stock(backend, model, guide, y)
    losses = backend.losses
    runs = [losses.ELBO(), losses.ELBO(num_particles=3)]
    if name != "nested" and name != "two likelihoods":  # where a plate is subsampled
        runs.append(losses.IWAE(num_particles=3))
    for loss in runs:
        same(backend.evaluate(loss, model, guide, y, params=PARAMS), expected)


@pytest.mark.parametrize("name", FEW)
def test_particles_one_after_the_other(backend: Any, name: str) -> None:
    make, y = MODELS[name]
    model, guide = make(backend)
    loss = backend.losses.ELBO(num_particles=2, vectorize=False)
    same(backend.evaluate(loss, model, guide, y, params=PARAMS), stock(backend, model, guide, y))


def test_whatever_lies_beneath_a_mask(backend: Any) -> None:
    """NaN in masked entries changes neither the value nor a gradient; 1,000 there neither."""
    make, y = MODELS["masked"]
    model, guide = make(backend)
    seen = np.arange(len(y)) % 3 != 1
    loss, found = backend.losses.ELBO(num_particles=2), []
    for beneath in (np.nan, 1e3):
        found.append(
            backend.evaluate(
                loss, model, guide, np.where(seen, y, beneath), seen * 1.0, params=PARAMS
            )
        )
    same(found[0], found[1])
    assert np.isfinite([found[0][0], *found[0][2].values()]).all()
    clean = stock(backend, *make(backend), np.where(seen, y, 0.0), seen * 1.0)
    same(found[0], clean)


def test_factors_count_with_the_likelihood(backend: Any) -> None:
    """beta weighs KL alone; per-datum weights exist where the factor alone holds the data."""
    make, y = MODELS["factor alone"]
    model, guide = make(backend)
    losses = backend.losses
    _, terms, _ = backend.evaluate(losses.ELBO(beta=0.0), model, guide, y, params=PARAMS)
    _, again, _ = backend.evaluate(losses.Reconstruction(), model, guide, y, params=PARAMS)
    assert terms["ELBO"] == pytest.approx(terms["ELBO/log_likelihood"])
    assert again["Reconstruction"] == pytest.approx(-terms["ELBO"])
    total, terms, _ = backend.evaluate(losses.IWAE(2), model, guide, y, params=PARAMS)
    assert total == pytest.approx(-6 * terms["IWAE"])


def test_deterministic_sites_leave_the_weights_per_datum(backend: Any) -> None:
    """Outside the plate as well: the bound is that of the model without them."""
    d = backend.dist

    def make(deterministic: bool) -> tuple[Callable, Callable]:
        def model(x: Any) -> None:
            with backend.plate("data", 50):
                z = backend.sample("z", d.Normal(backend.array(0.0), backend.array(1.0)))
                backend.sample("x", d.Normal(z, backend.array(1.0)), obs=x)
            if deterministic:
                backend.deterministic("sum", z.sum(-1))

        def guide(x: Any) -> None:
            with backend.plate("data", 50):
                backend.sample("z", d.Normal(0.4 * x, backend.array(0.9)))

        return model, guide

    x = np.sin(np.arange(50.0))
    loss = backend.losses.IWAE(30)
    with_, without = (backend.evaluate(loss, *make(flag), x)[:2] for flag in (True, False))
    assert with_ == without
    assert with_[0] == pytest.approx(-50 * with_[1]["IWAE"])


@pytest.mark.parametrize("num_particles", [1, 400])
def test_the_score_function_sees_what_lies_outside_the_plates(
    backend: Any, num_particles: int
) -> None:
    """A factor outside the plate that depends on discrete latents inside, against all states."""
    d, states = backend.dist, np.array([[0, 0], [0, 1], [1, 0], [1, 1]])

    def model(x: Any) -> None:
        with backend.plate("data", 2):
            c = backend.sample("c", d.Bernoulli(backend.array(0.3)))
            backend.sample("x", d.Normal(c, backend.array(1.0)), obs=x)
        backend.factor("both", 3.0 * c[..., :1] * c[..., 1:])

    def guide(x: Any) -> None:
        with backend.plate("data", 2):
            backend.sample("c", d.Bernoulli(logits=backend.param("a")))

    def exact(a: float) -> float:
        q = 1 / (1 + np.exp(-a))
        log_q = np.where(states, np.log(q), np.log(1 - q)).sum(1)
        log_p = np.where(states, np.log(0.3), np.log(0.7)) - 0.5 * (np.ones(2) - states) ** 2
        log_p = log_p.sum(1) - np.log(2 * np.pi) + 3.0 * states.prod(1)
        return (np.exp(log_q) * (log_q - log_p)).sum()

    loss = backend.losses.ELBO(num_particles=num_particles)
    seeds = range(400 if num_particles == 1 else 8)
    runs = [
        backend.evaluate(loss, model, guide, np.ones(2), params={"a": 0.2}, seed=seed)
        for seed in seeds
    ]
    slope = (exact(0.2 + 1e-4) - exact(0.2 - 1e-4)) / 2e-4
    gradients = np.array([float(run[2]["a"]) for run in runs])
    error = gradients.std() / np.sqrt(len(gradients))
    assert abs(gradients.mean() - slope) < 4.5 * error
    assert error < 0.12
