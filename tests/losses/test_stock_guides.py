"""Stock guides that state factors, and determined sites outside their plates: values and gradients
are those of the stock engine at the same draws."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pyro
import pyro.distributions as tdist
import pytest
import torch
from numpyro.handlers import scale, seed
from numpyro.infer import Trace_ELBO
from numpyro.infer.autoguide import (
    AutoDAIS,
    AutoNormal,
    AutoSemiDAIS,
    AutoSurrogateLikelihoodDAIS,
)

import numpyro_dgm.losses as jlosses
import pyro_dgm.losses as tlosses

RNG = np.random.default_rng(0)
X = RNG.normal(size=(12, 2))
Y = X @ [1.0, -1.0] + 0.1 * RNG.normal(size=12)


def regression(size: int | None = None) -> Callable:
    def model(x: Any, y: Any) -> None:
        w = numpyro.sample("w", dist.Normal(jnp.zeros(2), 1.0).to_event(1))
        with seed(rng_seed=5), numpyro.plate("N", 12, subsample_size=size):
            x, y = numpyro.subsample(x, 1), numpyro.subsample(y, 0)
            numpyro.sample("y", dist.Normal(x @ w, 0.5), obs=y)

    return model


def surrogate() -> None:
    w = numpyro.sample("w", dist.Normal(jnp.zeros(2), 1.0).to_event(1))
    weights = numpyro.param("weights", 2 * jnp.ones(5), constraint=dist.constraints.positive)
    with numpyro.plate("some", 5), scale(scale=weights):
        numpyro.sample("y", dist.Normal(X[:5] @ w, 0.5), obs=Y[:5])


def locally(shift: Any) -> None:
    with numpyro.plate("N", 12, subsample_size=4):
        y = numpyro.subsample(jnp.asarray(Y), 0)
        z = numpyro.sample("z", dist.LogNormal(shift, 1.0))
        numpyro.sample("y", dist.Normal(z, 0.5), obs=y)


def globally(x: Any, y: Any) -> Any:
    return numpyro.sample("shift", dist.Normal(0.0, 1.0))


def hierarchy(x: Any, y: Any) -> None:
    locally(globally(x, y))


GUIDES: dict[str, Callable] = {
    "annealed": lambda: (regression(), AutoDAIS(regression(), K=2)),
    "surrogate": lambda: (
        regression(4),
        AutoSurrogateLikelihoodDAIS(regression(4), surrogate, K=2),
    ),
    "semi": lambda: (hierarchy, AutoSemiDAIS(hierarchy, locally, AutoNormal(globally), K=2)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", GUIDES)
def test_annealed_guides_have_the_gradients_of_the_stock_bound(jax_x64: None, name: str) -> None:
    model, guide = GUIDES[name]()

    def fixed(*args: Any) -> Any:
        with seed(rng_seed=3):
            return guide(*args)

    svi = numpyro.infer.SVI(model, fixed, numpyro.optim.Adam(0.01), Trace_ELBO())
    params = svi.get_params(svi.init(jax.random.key(0), X, Y))

    def compared(loss: Any) -> tuple[Any, Any]:
        total = jax.value_and_grad(lambda p: loss.loss(jax.random.key(1), p, model, fixed, X, Y))
        return jax.jit(total)(params)

    expected, slopes = compared(Trace_ELBO())
    for loss in (jlosses.ELBO(), jlosses.IWAE(2)):
        value, gradients = compared(loss)
        assert value == pytest.approx(float(expected), rel=1e-10)
        for site, gradient in gradients.items():
            np.testing.assert_allclose(gradient, slopes[site], rtol=1e-8, atol=1e-8, err_msg=site)


def test_a_guide_of_pyro_with_a_factor_has_the_gradients_of_the_stock_bound(
    torch_x64: None,
) -> None:
    def model(y: Any) -> None:
        shift = pyro.sample("shift", tdist.Normal(torch.tensor(0.0), 1.0))
        with pyro.plate("N", 12):
            z = pyro.sample("z", tdist.Normal(shift, 1.0))
            pyro.sample("y", tdist.Normal(z, 0.5), obs=y)

    guide = pyro.infer.autoguide.AutoGaussian(model, backend="dense")
    y = torch.as_tensor(Y)
    guide(y)

    def fixed(*args: Any) -> Any:
        pyro.set_rng_seed(3)
        return guide(*args)

    found = []
    for loss in (pyro.infer.Trace_ELBO().differentiable_loss, tlosses.ELBO()):
        total = loss(model, fixed, y)
        found.append((total, *torch.autograd.grad(total, list(guide.parameters()))))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def test_a_factor_of_a_guide_must_be_pathwise(torch_x64: None) -> None:
    def guide(y: Any) -> None:
        pyro.factor("weight", torch.tensor(1.0))

    with pytest.raises(ValueError, match=r"write pyro\.factor\('weight', \.\.\., has_rsample=True"):
        tlosses.ELBO()(lambda y: pyro.sample("y", tdist.Normal(0.0, 1.0), obs=y), guide, Y[0])
