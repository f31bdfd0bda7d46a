"""Losses on models as users write them, beside the stock engines: values and gradients."""

from collections.abc import Callable
from typing import Any

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
        value, gradient = total(values)
        return float(value), {name: float(g) for name, g in gradient.items()}


def same(found: tuple, expected: tuple) -> None:
    assert found[0] == pytest.approx(expected[0], rel=1e-9)
    for name, gradient in expected[1].items():
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
